"""What a worker writes while it trains: every step's loss, a line an epoch, and the means that it reports."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Dict, List

from cross_silo.report.loss_log import LossLog
from cross_silo.training.trainer import LocalTrainer, StepRecord


class Progress:
    """Prints and records steps; numbers epochs over all rounds."""

    def __init__(self, trainer: LocalTrainer, loss_log: Path, batch_size: int, every_step: bool = True) -> None:
        """Begin a log.

        Args:
            loss_log: file that each step's losses are appended to.
            batch_size: images a step, for the images per second.
            every_step: print each step's loss, otherwise only an epoch's last.
        """
        self._trainer = trainer
        self._log = LossLog(loss_log)
        self._batch_size = batch_size
        self._every_step = every_step
        self._epoch: List[StepRecord] = []
        self._since = (time.monotonic(), trainer.wait_seconds)
        self.last = StepRecord(0, 0.0)
        """The newest step."""

    def begin(self) -> None:
        """Start the clock, just before training: time spent waiting for a round is not an epoch's."""
        self._epoch.clear()
        self._since = (time.monotonic(), self._trainer.wait_seconds)

    def on_step(self, record: StepRecord) -> None:
        """Record one step."""
        epoch, step = divmod(record.step - 1, self._trainer.steps_per_epoch)
        ends_epoch = step + 1 == self._trainer.steps_per_epoch
        self.last = record
        self._epoch.append(record)
        if self._every_step or ends_epoch:
            self._log.write(epoch + 1, step + 1, record.loss, record.parts)
            print(f"epoch: {epoch + 1} step: {step + 1} total_loss: {record.loss:.7g}", flush=True)
        if ends_epoch:
            self.end_epoch()

    def end_epoch(self) -> None:
        """Print the means over the steps since the last such line."""
        if not self._epoch:
            return
        steps, (began, waited) = len(self._epoch), self._since
        seconds = max(time.monotonic() - began, 1e-9)
        means = mean_losses(self._epoch)
        wait = self._trainer.wait_seconds - waited
        epoch = (self._epoch[-1].step - 1) // self._trainer.steps_per_epoch + 1
        print(
            f"epoch {epoch}: {steps} steps in {seconds:.1f} s, {steps * self._batch_size / seconds:.1f} images/s, "
            f"waited {wait:.2f} s ({wait / seconds:.1%}) for data, "
            + ", ".join(f"{name} {value:.4f}" for name, value in means.items()),
            flush=True,
        )
        self.begin()


def mean_losses(records: List[StepRecord]) -> Dict[str, float]:
    """Return the mean of the total and of each part over ``records``."""
    count = len(records)
    means = {"total_loss": sum(record.loss for record in records) / count}
    for name in records[0].parts:
        means[name] = sum(record.parts[name] for record in records) / count
    return means
