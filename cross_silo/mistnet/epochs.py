"""The server's epochs over the pooled features: training, a checkpoint of the whole detector and its AP after each."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, list_checkpoints, prune_checkpoints, write_checkpoint
from cross_silo.checkpoint.best import keep_best
from cross_silo.errors import UserError
from cross_silo.mistnet.trainer_files import ROLE, Progress
from cross_silo.training.progress import Progress as StepLog
from cross_silo.training.progress import mean_losses
from cross_silo.training.trainer import LocalTrainer, NonFiniteLossError, StepRecord, Weights
from cross_silo.training.worker_state import Update, WorkerState, load_state, save_state

log = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 3
TELL_SECONDS = 1.0
LOSS_LOG = "loss_0.log"
Measure = Callable[[Callable[[], None]], Mapping[str, Any]]
"""Measures the trainer's present weights; the argument is called before each batch and may raise to end it."""


@dataclass(frozen=True)
class EpochPlan:
    """What is trained, and where it goes."""

    fl_name: str
    epochs: int
    every: int
    """Epochs from one measurement to the next; the last is measured in any case."""
    metric: str
    """By which the best model is kept."""
    checkpoint_dir: Path
    run_dir: Path
    batch_size: int


class EpochTraining:
    """Trains from the newest checkpoint to the last epoch. An epoch that was interrupted is trained again."""

    def __init__(
        self,
        trainer: LocalTrainer,
        measure: Optional[Measure],
        plan: EpochPlan,
        info: CheckpointInfo,
        progress: Progress,
        check: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            measure: None: the job does not evaluate.
            info: what the checkpoints say; the epoch is filled in as the round.
            progress: what the server is told; what an earlier process of the job told stands in it.
            check: called often; raises to end the training before its end.
        """
        self._trainer = trainer
        self._measure = measure
        self._plan = plan
        self._info = info
        self._progress = progress
        self._check = check
        self._shapes = trainer.shapes()
        self._steps: List[StepRecord] = []
        self._told = 0.0
        directory = plan.run_dir / ROLE
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._log = StepLog(trainer, directory / LOSS_LOG, plan.batch_size, every_step=True)

    def run(self, weights: Weights, epoch: int) -> None:
        """Train from ``weights``, which are those after ``epoch`` epochs. Raises NonFiniteLossError, UserError."""
        self._resume(weights, epoch)
        if not epoch:
            self._evaluate(0)
        elif str(epoch) not in self._progress.evaluations and self._is_measured(epoch):
            self._evaluate(epoch)
        while epoch < self._plan.epochs:
            epoch += 1
            self._epoch(epoch)
        self._progress.phase, self._progress.outcome = "done", "done"
        self._progress.write(self._plan.run_dir)

    def _resume(self, weights: Weights, epoch: int) -> None:
        self._trainer.set_weights(weights)
        self._progress.records = [entry for entry in self._progress.records if entry["epoch"] <= epoch]
        if not epoch:
            return
        state = load_state(self._state_file(epoch))
        if state is None or state.update.instance != self._info.instance:
            raise UserError(
                f"{self._state_file(epoch)} is not there or of another job: it holds the optimizer's state after epoch "
                f"{epoch}; expected the --run_dir that the job was trained in"
            )
        self._trainer.load_state(state.optimizer, state.step)
        if not any(entry["epoch"] == epoch for entry in self._progress.records):
            path = dict(list_checkpoints(self._plan.checkpoint_dir, self._plan.fl_name))[epoch]
            self._tell_epoch(epoch, None, 0.0, 0.0, str(path))  # killed between its checkpoint and its record
        log.info("going on after epoch %d", epoch)

    def _state_file(self, epoch: int) -> Path:
        return self._directory / f"state_{epoch}.npz"

    def _epoch(self, epoch: int) -> None:
        trainer, progress = self._trainer, self._progress
        progress.phase, progress.epoch = "training", epoch
        self._steps = []
        self._tell()
        self._log.begin()
        began = time.monotonic()
        trainer.train(trainer.steps_per_epoch, self._on_step)
        seconds = time.monotonic() - began
        loss = mean_losses(self._steps)["total_loss"]
        began = time.monotonic()
        last = epoch == self._plan.epochs
        weights = {name: np.asarray(array) for name, array in self._weights(last).items()}
        path = self._save(epoch, weights)
        self._tell_epoch(epoch, loss, seconds, time.monotonic() - began, path)
        if last:
            trainer.set_weights(weights)  # those that are measured
        if self._is_measured(epoch):
            self._evaluate(epoch)
        prune_checkpoints(self._plan.checkpoint_dir, self._plan.fl_name, KEPT_CHECKPOINTS)

    def _weights(self, last: bool) -> Mapping[str, np.ndarray]:
        return self._trainer.final_weights() if last else self._trainer.get_weights()

    def _save(self, epoch: int, weights: Mapping[str, np.ndarray]) -> str:
        """Write the optimizer's state, then the checkpoint that says that the epoch is done."""
        plan = self._plan
        state = self._state_file(epoch)
        update = Update(self._info.instance, epoch, 0.0, len(self._steps), 0.0, weights={})
        save_state(state, WorkerState(update, self._trainer.step, self._trainer.state()))
        path = checkpoint_path(plan.checkpoint_dir, plan.fl_name, epoch, datetime.datetime.now())
        write_checkpoint(path, weights, dataclasses.replace(self._info, round=epoch), shapes=self._shapes)
        for other in self._directory.glob("state_*.npz"):
            if other != state:
                other.unlink()
        return str(path)

    def _on_step(self, record: StepRecord) -> None:
        self._log.on_step(record)
        self._steps.append(record)
        self._progress.step, self._progress.loss = record.step, record.loss
        self._check()
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._tell()

    def _is_measured(self, epoch: int) -> bool:
        return epoch % self._plan.every == 0 or epoch == self._plan.epochs

    def _evaluate(self, epoch: int) -> None:
        if self._measure is None or str(epoch) in self._progress.evaluations:
            return
        self._progress.phase = "evaluating"
        self._tell()
        metrics = dict(self._measure(self._check))
        log.info("epoch %d: AP %.3f, AP50 %.3f", epoch, metrics["AP"], metrics["AP50"])
        self._progress.evaluations[str(epoch)] = metrics
        self._keep_best()
        self._tell()

    def _keep_best(self) -> None:
        plan, evaluations = self._plan, self._progress.evaluations
        known = {int(epoch): metrics for epoch, metrics in evaluations.items()}
        try:
            best = keep_best(plan.checkpoint_dir, plan.fl_name, self._info.instance, plan.metric, known)
        except OSError as error:
            log.warning("the best model in %s cannot be kept: %s", plan.checkpoint_dir, error.strerror)
            return
        self._progress.best = None if best is None else dict(best._asdict())

    def _tell_epoch(
        self, epoch: int, loss: Optional[float], seconds: float, checkpoint_seconds: float, checkpoint: str
    ) -> None:
        entry: Dict[str, Any] = {"epoch": epoch, "loss": loss, "steps": len(self._steps), "seconds": seconds}
        entry.update(checkpoint_seconds=checkpoint_seconds, checkpoint=checkpoint, ended=time.time())
        self._progress.records.append(entry)
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._progress.write(self._plan.run_dir)


def train_epochs(training: EpochTraining, weights: Weights, epoch: int, progress: Progress, run_dir: Path) -> int:
    """Run ``training``; return the exit status. An error, or a loss that is not finite, ends the job."""
    try:
        training.run(weights, epoch)
    except Exception as error:  # whatever it is, the job is told of it
        if not isinstance(error, (NonFiniteLossError, UserError, OSError)):
            log.exception("the training broke off")
        progress.phase, progress.outcome, progress.reason = "failed", "failed", f"feature trainer: {error}"
        progress.write(run_dir)
        log.error("%s", progress.reason)
        return 1
    return 0
