"""One compilation of the training step for all processes of a machine, on MindSpore's compile cache.

MindSpore reads and writes its files in place and trusts them, so each process gets a private directory: filled from an
entry whose digests are right, or, by the one process at a time that may compile an entry, moved into its place after.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import mindspore
from mindspore.train.mind_ir_pb2 import ModelProto

from cross_silo.config.model import Model
from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock
from cross_silo.launch.proc import is_alive, start_time
from cross_silo.launch.record import read_json, write_json
from cross_silo.launch.user_dir import own_dir
from cross_silo.training.graph_key import graph_key

if TYPE_CHECKING:
    from mindspore import Tensor, nn

log = logging.getLogger(__name__)

COMPILE_DEADLINE = 600.0
"""Seconds to wait for another process's compilation."""
ENTRIES = 16
"""Entries that are kept, those used last."""
DAY = 86400.0
MANIFEST = "manifest.json"
PRIVATE = "private-"
_used: List[Path] = []


class CompileCache:
    """Compiled graphs in a directory, one entry for each :func:`~cross_silo.training.graph_key.graph_key`."""

    def __init__(
        self,
        directory: Path,
        facts: Sequence[object],
        defined_by: Iterable[type],
        deadline: float = COMPILE_DEADLINE,
    ) -> None:
        """Make the directory if need be.

        Args:
            directory: only this user may write it: what stands in it is run.
            facts: settings that the graph is made from.
            defined_by: classes that build the graph.
            deadline: seconds to wait for another process's compilation.

        Raises:
            UserError: the directory cannot be made, or others may write it.
        """
        self._directory = own_dir(directory, "set compile_cache to another one")
        self._facts = facts
        self._defined_by = tuple(defined_by)
        self._deadline = deadline

    def compile(self, cell: "nn.Cell", inputs: "Sequence[Tensor]") -> None:
        """Compile ``cell`` for ``inputs``, or load what another process compiled; any fault of the cache is no fault.

        Only the first call of a process uses the cache: MindSpore fixes its directory then, and numbers its files in
        the order of compilation, so that another cell would be taken for this one.
        """
        if _used or os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1":
            log.warning("compile_cache is not used: MindSpore's cache is in use in this process already")
        else:
            began = time.monotonic()
            try:
                how = self._compile_with_cache(cell, inputs)
            except Exception as error:  # of the cache or of the cell: the latter comes again below
                log.warning("compile_cache is not used: %s", (str(error).splitlines() or [type(error).__name__])[0])
            else:
                log.info("training step %s in %.1f s", how, time.monotonic() - began)
        cell.compile(*inputs)  # does nothing if it is compiled

    def _compile_with_cache(self, cell: "nn.Cell", inputs: "Sequence[Tensor]") -> str:
        key = graph_key(self._facts, self._defined_by, cell, inputs)
        entry = self._directory / key
        private = self._directory / f"{PRIVATE}{key}-{os.getpid()}-{start_time(os.getpid())}"
        try:
            with contextlib.ExitStack() as lock:
                lock.enter_context(file_lock(self._lock_file(key), self._deadline))
                self._discard_what_killed(key, entry)
                digests = take(entry, private)
                if digests is not None:
                    lock.close()  # others may load it at the same time
                    try:
                        _compile(cell, inputs, private)
                    except Exception:
                        shutil.rmtree(entry, ignore_errors=True)
                        raise
                    if digests == _digests(private):
                        return "loaded from compile_cache"
                    lock.enter_context(file_lock(self._lock_file(key), self._deadline))
                else:
                    _compile(cell, inputs, private)
                check_parameters(private, {parameter.name for parameter in cell.get_parameters()})
                publish(private, entry)
                self._prune()
                return "compiled for compile_cache"
        finally:
            shutil.rmtree(private, ignore_errors=True)

    def _lock_file(self, key: str) -> Path:
        return self._directory / f"lock-{key[:2]}"  # never removed, therefore few

    def _discard_what_killed(self, key: str, entry: Path) -> None:
        """Remove the entry if a process ended while it compiled or loaded it: it may have ended of it."""
        for left in self._directory.glob(f"{PRIVATE}{key}-*"):
            pid, started = map(int, left.name.split("-")[-2:])
            if not is_alive(pid, started):
                log.warning("compile_cache: process %d ended while it compiled or loaded; compiling anew", pid)
                shutil.rmtree(entry, ignore_errors=True)
                shutil.rmtree(left, ignore_errors=True)

    def _prune(self) -> None:
        """Remove the entries beyond those used last, and private directories that nothing can use any more."""
        entries: List[Tuple[float, Path]] = []
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):  # another process prunes, too
                if path.name.startswith(PRIVATE):
                    if time.time() - path.stat().st_mtime > DAY:
                        shutil.rmtree(path)
                elif path.is_dir():
                    entries.append((path.stat().st_mtime, path))
        for _, path in sorted(entries, reverse=True)[ENTRIES:]:
            shutil.rmtree(path, ignore_errors=True)


def open_compile_cache(model: Model, num_classes: int) -> Optional[CompileCache]:
    """Return the cache that the model YAML asks for, None if it asks for none. Raises UserError: see CompileCache."""
    if not model.config.compile_cache:
        return None
    directory = Path(model.config.compile_cache).expanduser().resolve()
    settings = dataclasses.replace(model.config, compile_cache="")
    return CompileCache(directory, (settings, model.detector_settings, num_classes), (model.detector_class,))


def _compile(cell: "nn.Cell", inputs: "Sequence[Tensor]", private: Path) -> None:
    """Compile with MindSpore's cache in ``private``, and in no later compilation."""
    _used.append(private)
    mindspore.set_context(enable_compile_cache=True, compile_cache_path=str(private))
    try:
        cell.compile(*inputs)
    finally:
        mindspore.set_context(enable_compile_cache=False)


def take(entry: Path, private: Path) -> Optional[Dict[str, str]]:
    """Copy an entry into the new directory ``private``; return the digests of its files, None if it is not whole."""
    private.mkdir(mode=0o700)
    manifest = read_json(entry / MANIFEST)
    if manifest is None:
        return None
    try:
        for name in manifest:
            (private / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(entry / name, private / name)
        os.utime(entry)
    except OSError:
        pass  # the digests tell
    digests = _digests(private)
    if digests == manifest and digests:
        return digests
    log.warning("compile_cache: %s is damaged; compiling anew", entry)
    shutil.rmtree(private)
    private.mkdir(mode=0o700)
    return None


def check_parameters(private: Path, names: Set[str]) -> None:
    """Refuse a graph with parameters that the cell does not own: MindSpore loads them without their values.

    Raises:
        UserError: there is one.
    """
    for file in private.rglob("*.mindir"):
        model = ModelProto()
        model.ParseFromString(file.read_bytes())
        # A name is the graph's, a colon, the parameter's.
        strange = {parameter.name.partition(":")[2] for parameter in model.graph.parameter} - names
        if strange:
            raise UserError(f"the training step has parameters that its cells do not own: {', '.join(sorted(strange))}")


def publish(private: Path, entry: Path) -> None:
    """Move what MindSpore wrote into ``private`` to ``entry``, in place of what is there.

    Raises:
        UserError: MindSpore wrote no graph.
    """
    digests = _digests(private)
    if not any(name.endswith(".mindir") for name in digests) or not any(name.endswith(".hash") for name in digests):
        raise UserError(f"MindSpore wrote no graph into {private}")
    write_json(private / MANIFEST, digests)
    shutil.rmtree(entry, ignore_errors=True)
    os.rename(private, entry)


def _digests(directory: Path) -> Dict[str, str]:
    """Return the SHA-256 of each file below ``directory``."""
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }
