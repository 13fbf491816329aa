"""A worker's own state on disk: what a restarted worker needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np


@dataclass(frozen=True)
class Update:
    """A trained local model that a round asks for."""

    instance: str
    """Job instance that it was trained for."""
    iteration: int
    """Round that it was trained for, from 1."""
    loss: float
    """Mean loss over its steps."""
    steps: int
    """Local steps."""
    train_seconds: float
    """Seconds that they took."""
    weights: Mapping[str, np.ndarray] = field(repr=False)
    """The trained tensors."""


@dataclass(frozen=True)
class WorkerState:
    """Written after local training, before the push."""

    update: Update
    step: int
    """Steps taken over all rounds: with the seed, the position of data order, augmentation and sampling."""
    optimizer: Mapping[str, np.ndarray]
    """The trainer's state: the optimizer's tensors, and the moving average of the weights where one is kept."""


def save_state(path: Path, state: WorkerState) -> None:
    """Write ``state`` beside ``path`` and rename it into place."""
    header = asdict(state.update)
    del header["weights"]
    arrays = {"weights/" + name: array for name, array in state.update.weights.items()}
    arrays.update({"optimizer/" + name: array for name, array in state.optimizer.items()})
    text = json.dumps({**header, "step": state.step}).encode()
    beside = path.with_suffix(".partial")
    with open(beside, "wb") as file:
        np.savez(file, header=np.frombuffer(text, np.uint8), **arrays)
    os.replace(beside, path)


def load_state(path: Path) -> Optional[WorkerState]:
    """Read what :func:`save_state` wrote; None where there is no whole state."""
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(file["header"].tobytes())
            groups: Dict[str, Dict[str, np.ndarray]] = {"weights": {}, "optimizer": {}}
            for key in file.files:
                group, _, name = key.partition("/")
                if group in groups:
                    groups[group][name] = file[key]
        step = header.pop("step")
        return WorkerState(Update(weights=groups["weights"], **header), step, groups["optimizer"])
    except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError):
        return None
