"""A job's best model so far, by a metric of its evaluations, kept beside its checkpoints whatever is pruned there.

``{fl_name}_best.ckpt`` is another name of that round's checkpoint (a copy where the file system has no hard links), and
``{fl_name}_best.json`` says which round it is. Neither is taken for a checkpoint to go on from.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from cross_silo.checkpoint.directory import PathLike, list_checkpoints
from cross_silo.launch.record import read_json, write_json


class Best(NamedTuple):
    """Which model is the best."""

    instance: str
    """Of the job."""
    round: int
    metric: str
    value: float
    checkpoint: str
    """Its path."""


def best_files(directory: PathLike, fl_name: str) -> Tuple[Path, Path]:
    """Return where the best model and what is said of it stand."""
    return Path(directory) / f"{fl_name}_best.ckpt", Path(directory) / f"{fl_name}_best.json"


def read_best(directory: PathLike, fl_name: str, instance: str) -> Optional[Best]:
    """Return the best model of a job's instance; None where there is none yet."""
    model, note = best_files(directory, fl_name)
    content = read_json(note)
    if content is None or content.get("instance") != instance or not model.is_file():
        return None
    try:
        return Best(**content)
    except TypeError:
        return None


def keep_best(
    directory: PathLike, fl_name: str, instance: str, metric: str, evaluations: Mapping[int, Mapping[str, Any]]
) -> Optional[Best]:
    """Keep the best of the evaluated models whose checkpoints are there, unless a better one is kept already.

    Args:
        metric: a name in ``evaluations``; of two equal models the earlier one is kept.
        evaluations: metrics by round.

    Returns:
        The best model; None where none is known.

    Raises:
        OSError: the disk refuses; what was kept stays.
    """
    best = read_best(directory, fl_name, instance)
    model, note = best_files(directory, fl_name)
    newest = dict(list_checkpoints(directory, fl_name))
    kept = best
    for round in sorted(set(evaluations) & set(newest)):
        value = evaluations[round].get(metric)
        if value is not None and (best is None or best.metric != metric or value > best.value):
            best = Best(instance, round, metric, value, str(model))
    if best is not None and best != kept:
        _put(newest[best.round], model)
        write_json(note, best._asdict())
    return best


def _put(checkpoint: Path, model: Path) -> None:
    """Make ``model`` a name of ``checkpoint``'s content, at once."""
    beside = model.with_name(f".{model.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    try:
        try:
            os.link(checkpoint, beside)
        except OSError:
            shutil.copyfile(checkpoint, beside)
        os.replace(beside, model)
    finally:
        beside.unlink(missing_ok=True)
