"""The checkpoints of a job in their directory: their names, which is newest, which go."""

from __future__ import annotations

import datetime
import logging
import os
import re
from pathlib import Path
from typing import Container, List, Optional, Tuple, Union

from cross_silo.checkpoint.file import read_checkpoint
from cross_silo.errors import UserError

logger = logging.getLogger(__name__)

PathLike = Union[str, os.PathLike]


def checkpoint_path(directory: PathLike, fl_name: str, round: int, when: datetime.datetime) -> Path:
    """Return where the model of good round ``round`` goes: ``{fl_name}_recovery_iteration_{n}_{timestamp}.ckpt``."""
    return Path(directory) / f"{fl_name}_recovery_iteration_{round}_{when:%Y%m%d_%H%M%S}.ckpt"


def list_checkpoints(directory: PathLike, fl_name: str) -> List[Tuple[int, Path]]:
    """Return (round, path) of a job's checkpoints, oldest round first; a round's newest file last."""
    name = re.compile(re.escape(fl_name) + r"_recovery_iteration_(\d{1,10})_(\d{8}_\d{6})\.ckpt")
    found = []
    for path in Path(directory).glob("*.ckpt"):
        match = name.fullmatch(path.name)
        if match:
            found.append((int(match[1]), match[2], path))
    return [(round, path) for round, _, path in sorted(found)]


def newest_checkpoint(directory: PathLike, fl_name: str, fingerprint: Optional[str] = None) -> Optional[Path]:
    """Return the usable checkpoint of the highest round, or None.

    A damaged one, or one of another model than ``fingerprint``, is passed over with a warning.
    """
    for _, path in reversed(list_checkpoints(directory, fl_name)):
        try:
            info = read_checkpoint(path)[1]
        except UserError as error:
            logger.warning("passed over: %s", error)
            continue
        if fingerprint is not None and info.fingerprint != fingerprint:
            logger.warning(
                "passed over: checkpoint %s is of another model (fingerprint %s, expected %s)",
                path,
                info.fingerprint[:12] or "none",
                fingerprint[:12],
            )
            continue
        return path
    return None


def prune_checkpoints(directory: PathLike, fl_name: str, keep: int, protect: Container[int] = ()) -> None:
    """Delete a job's checkpoints but for the newest ``keep`` rounds and those in ``protect``.

    What an interrupted process of this job left half-written goes too.
    """
    checkpoints = list_checkpoints(directory, fl_name)
    kept = sorted({round for round, _ in checkpoints})[-keep:] if keep > 0 else []
    for round, path in checkpoints:
        if round not in kept and round not in protect:
            path.unlink(missing_ok=True)
    own = f".{os.getpid()}.tmp"
    for path in Path(directory).glob(f".{fl_name}_recovery_iteration_*.tmp"):
        if not path.name.endswith(own):
            path.unlink(missing_ok=True)
