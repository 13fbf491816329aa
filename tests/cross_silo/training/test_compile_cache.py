"""The compile cache changes no number, compiles once for several processes, and takes nothing that is damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cross_silo
from cross_silo import runtime
from cross_silo.config.model import ModelConfig
from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock

runtime.prepare()
runtime.start(seed=1)

from mindspore import Parameter, Tensor  # noqa: E402
from mindspore.train.mind_ir_pb2 import ModelProto  # noqa: E402

from cross_silo.training import compile_cache  # noqa: E402
from cross_silo.training.compile_cache import ENTRIES, MANIFEST, CompileCache, publish, take  # noqa: E402

PROBE = Path(__file__).resolve().parents[2] / "support" / "compile_cache_probe.py"
GRAPH, HASH = "rank_0/graph_cache/compile_cache_0.mindir", "rank_0/graph_cache/compile_dependency.hash"


@pytest.fixture
def start_probe(tmp_path):
    """Start the probe on a copy of the package: whoever edits it during the test would change the graph's name."""
    source = Path(cross_silo.__file__).parent
    shutil.copytree(source, tmp_path / "code" / "cross_silo", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code")}

    def start(directory, seed=1, later=""):
        command = [sys.executable, str(PROBE), str(directory), str(seed), str(later)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=environment)

    return start


def result_of(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    how = [word for word in ("compiled", "loaded") if f"training step {word}" in err]
    return (how[0] if how else "without"), json.loads(out)


def test_processes_at_once_compile_once_and_no_number_changes(tmp_path, start_probe):
    directory = tmp_path / "cache"
    at_once = [result_of(process) for process in [start_probe(directory, 1, 9), start_probe(directory, 1, 9)]]
    plain = result_of(start_probe("", 1, 9))
    assert sorted(how for how, _ in at_once) == ["compiled", "loaded"]
    assert at_once[0][1] == at_once[1][1] == plain[1]
    assert plain[0] == "without"

    # The values of the weights are no part of an entry.
    warm, cold = [result_of(process) for process in [start_probe(directory, 2), start_probe("", 2)]]
    assert (warm[0], cold[0]) == ("loaded", "without")
    assert warm[1] == cold[1]
    assert warm[1]["losses"] != plain[1]["losses"][:5]

    # A graph cut short, of which the manifest tells, and one of which it does not.
    [entry] = (path for path in directory.iterdir() if path.is_dir())
    graph = entry / GRAPH
    whole = graph.read_bytes()
    for keep_manifest in (True, False):
        graph.chmod(0o600)
        graph.write_bytes(whole[: len(whole) // 2])
        if not keep_manifest:
            (entry / MANIFEST).write_text(json.dumps(compile_cache._digests(entry / "rank_0")), encoding="utf-8")
        how, found = result_of(start_probe(directory, 2))
        assert how == "compiled"
        assert found == cold[1]
    assert result_of(start_probe(directory, 2)) == ("loaded", cold[1])


class Cell:
    """Stands for a cell: leaves the files that MindSpore would, unless it finds them."""

    def __init__(self, monkeypatch, key="a1b2"):
        self.path, self.did = None, []
        self.fails = False
        self.graphs_parameters = ["weight"]
        monkeypatch.setattr(compile_cache.mindspore, "set_context", self.set_context)
        monkeypatch.setattr(compile_cache, "_used", [])
        monkeypatch.setattr(compile_cache, "graph_key", lambda *_: key)

    def set_context(self, enable_compile_cache, compile_cache_path=None):
        self.path = Path(compile_cache_path) if enable_compile_cache else None

    def get_parameters(self):
        return [Parameter(Tensor(0.0), name="weight")]

    def compile(self):
        if self.path is None:
            self.did.append("plain")
            return
        if (self.path / GRAPH).exists():
            self.did.append("loaded")
            if self.fails:
                raise RuntimeError("no such operator")
            return
        self.did.append("compiled")
        (self.path / GRAPH).parent.mkdir(parents=True)
        graph = ModelProto(producer_name="test")
        for name in self.graphs_parameters:
            graph.graph.parameter.add(name=f"8_construct:{name}")
        (self.path / GRAPH).write_bytes(graph.SerializeToString())
        (self.path / HASH).write_bytes(b"hash")


def compile_with(monkeypatch, directory, key="a1b2", fails=False, deadline=1.0):
    """Compile as a new process would; return what was done and what stands in the directory afterwards."""
    cell = Cell(monkeypatch, key)
    cell.fails = fails
    CompileCache(directory, (), (), deadline).compile(cell, ())
    return cell.did, sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_a_second_process_loads_what_the_first_compiled(monkeypatch, tmp_path):
    assert compile_with(monkeypatch, tmp_path) == (["compiled", "plain"], ["a1b2"])
    assert compile_with(monkeypatch, tmp_path) == (["loaded", "plain"], ["a1b2"])
    assert compile_with(monkeypatch, tmp_path, key="c3d4") == (["compiled", "plain"], ["a1b2", "c3d4"])


def test_a_process_uses_it_for_one_cell_only(monkeypatch, tmp_path):
    cell = Cell(monkeypatch)
    for _ in range(2):
        CompileCache(tmp_path, (), ()).compile(cell, ())
    assert cell.did == ["compiled", "plain", "plain"]


def test_a_user_who_has_mindspores_own_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    assert compile_with(monkeypatch, tmp_path) == (["plain"], [])


def test_a_graph_with_parameters_that_its_cells_do_not_own_is_not_kept(monkeypatch, tmp_path, caplog):
    cell = Cell(monkeypatch)
    cell.graphs_parameters.append("hidden")
    CompileCache(tmp_path, (), ()).compile(cell, ())
    assert cell.did == ["compiled", "plain"]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert "hidden" in caplog.text and "weight" not in caplog.text


def test_an_entry_that_cannot_be_loaded_is_removed(monkeypatch, tmp_path):
    compile_with(monkeypatch, tmp_path)
    assert compile_with(monkeypatch, tmp_path, fails=True) == (["loaded", "plain"], [])
    assert compile_with(monkeypatch, tmp_path) == (["compiled", "plain"], ["a1b2"])


def test_an_entry_that_a_process_ended_with_is_compiled_anew(monkeypatch, tmp_path):
    compile_with(monkeypatch, tmp_path)
    living = tmp_path / f"private-a1b2-{os.getppid()}-{compile_cache.start_time(os.getppid())}"
    living.mkdir()
    assert compile_with(monkeypatch, tmp_path)[0] == ["loaded", "plain"]
    (tmp_path / f"private-a1b2-{os.getppid()}-1").mkdir()  # a process that had this pid before
    assert compile_with(monkeypatch, tmp_path) == (["compiled", "plain"], ["a1b2", living.name])


def test_a_compilation_that_takes_too_long_is_not_waited_for(monkeypatch, tmp_path):
    with file_lock(tmp_path / "lock-a1"):
        assert compile_with(monkeypatch, tmp_path, deadline=0.05) == (["plain"], [])


def test_a_full_disk_costs_the_cache_only(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compile_cache, "write_json", full)
    assert compile_with(monkeypatch, tmp_path) == (["compiled", "plain"], [])


def test_the_entries_used_last_are_kept(monkeypatch, tmp_path):
    for number in range(ENTRIES + 1):
        compile_with(monkeypatch, tmp_path, key=f"{number:04}")
        os.utime(tmp_path / f"{number:04}", (number, number))
        if number == 1:
            assert compile_with(monkeypatch, tmp_path, key="0000")[0] == ["loaded", "plain"]  # used now
    (tmp_path / "private-left-1-1").mkdir()
    os.utime(tmp_path / "private-left-1-1", (1, 1))
    _, left = compile_with(monkeypatch, tmp_path, key="new")
    assert left == ["0000", *(f"{number:04}" for number in range(3, ENTRIES + 1)), "new"]


@pytest.mark.parametrize("name", [GRAPH, HASH, MANIFEST])
@pytest.mark.parametrize("damage", ["", "cut", "gone"])
def test_only_whole_entries_are_taken(tmp_path, name, damage):
    entry = tmp_path / "entry"
    (tmp_path / "made" / GRAPH).parent.mkdir(parents=True)
    for file in (GRAPH, HASH):
        (tmp_path / "made" / file).write_bytes(b"content")
    publish(tmp_path / "made", entry)
    if damage == "cut":
        (entry / name).write_bytes((entry / name).read_bytes()[:3])
    elif damage == "gone":
        (entry / name).unlink()
    assert (take(entry, tmp_path / "copy") is None) == bool(damage)
    if damage:
        assert list((tmp_path / "copy").iterdir()) == []


def test_what_has_no_graph_is_not_published(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(UserError, match="no graph"):
        publish(tmp_path / "made", tmp_path / "entry")
    assert not (tmp_path / "entry").exists()


def test_a_directory_that_others_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(UserError, match="only this user writes.*compile_cache"):
        CompileCache(tmp_path, (), ())


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match="compile_cache.*Ascend"):
        ModelConfig("d", compile_cache="cache", device_target="Ascend")
