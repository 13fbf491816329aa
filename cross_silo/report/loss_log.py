"""A worker's ``loss_0.log``: one line a training step, ``epoch: 1 step: 1 total_loss: 0.6060338 rpn_cls: 0.2 ...``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Union

from cross_silo.errors import UserError

NUMBER = r"[-+]?(?:\d[\d.e+-]*|nan|inf)"
LINE = re.compile(rf"epoch: (\d+) step: (\d+) total_loss: ({NUMBER})((?: [^\s:]+: {NUMBER})*)")
PART = re.compile(rf" ([^\s:]+): ({NUMBER})")


@dataclass(frozen=True)
class StepLoss:
    """One training step."""

    epoch: int
    """Local epoch, from 1, counted over all rounds."""
    step: int
    """Step in the epoch, from 1."""
    total: float
    parts: Dict[str, float] = field(default_factory=dict)
    """The losses that make up the total, by name."""


class LossLog:
    """Appends steps to a log; each is in the file when :meth:`write` returns."""

    def __init__(self, path: Union[str, os.PathLike]) -> None:
        """Open ``path``; a line that an interrupted process left unfinished is removed."""
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - stays open
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - 4096))
        tail = self._file.read()
        self._file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)

    def write(self, epoch: int, step: int, total: float, parts: Mapping[str, float]) -> None:
        """Append one step; ``epoch`` and ``step`` count from 1."""
        words = [f"epoch: {epoch} step: {step} total_loss: {total:.7g}"]
        words.extend(f"{name}: {value:.7g}" for name, value in parts.items())
        self._file.write((" ".join(words) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_loss_log(path: Union[str, os.PathLike]) -> List[StepLoss]:
    """Return the steps of a log in order, each once.

    Where a line is not after the one before it, training went back (a worker was restarted, or a job was begun
    anew in the same directory): what was logged from that step on counts no more.

    Raises:
        UserError: the file cannot be read, or a line is no step.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UserError(f"loss log {path}: {error.strerror}") from None
    steps: List[StepLoss] = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is still being written
        match = LINE.fullmatch(line)
        try:
            step = _step(match) if match else None
        except ValueError:
            step = None
        if step is None:
            raise UserError(f"{path}:{number}: found {line[:60]!r}, expected 'epoch: 1 step: 1 total_loss: 0.5 ...'")
        while steps and (steps[-1].epoch, steps[-1].step) >= (step.epoch, step.step):
            steps.pop()
        steps.append(step)
    return steps


def _step(match: "re.Match[str]") -> StepLoss:
    parts = {name: float(value) for name, value in PART.findall(match[4])}
    return StepLoss(int(match[1]), int(match[2]), float(match[3]), parts)


def epoch_means(steps: List[StepLoss]) -> Dict[int, float]:
    """Return the mean total loss of each epoch: the sum over its steps divided by their number."""
    sums: Dict[int, List[float]] = {}
    for step in steps:
        sums.setdefault(step.epoch, []).append(step.total)
    return {epoch: sum(losses) / len(losses) for epoch, losses in sums.items()}
