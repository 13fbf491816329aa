"""A worker's rounds: pull the global model, train on it, push the update, wait for the verdict."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from cross_silo.errors import UserError
from cross_silo.protocol.client import AggregationClient, ModelReply, ServerUnreachable, Ticket
from cross_silo.training.heartbeat import Heartbeat
from cross_silo.training.leave import Leave, Leaving
from cross_silo.training.progress import Progress
from cross_silo.training.silo_evaluation import Measure
from cross_silo.training.trainer import LocalTrainer, NonFiniteLossError, StepRecord, Weights
from cross_silo.training.worker_state import Update, WorkerState, load_state, save_state

log = logging.getLogger(__name__)

ENDED = ("finished", "failed", "stopped")
POLL_SECONDS = 20.0
"""How long one request waits at the server; short against what drops an idle connection on the way."""


class _JobEnded(Exception):
    """The job ended while this worker was busy with a round."""


class _RoundOver(Exception):
    """The round closed without this silo while it trained."""


@dataclass(frozen=True)
class RoundPlan:
    """How a worker takes part."""

    steps: int
    """Local steps a round."""
    instance: str
    """Job instance that the worker began with."""
    join_deadline: float = 600.0
    """Seconds to be refused at a round's start, for another reason than that it has no place, before giving up."""
    verdict_deadline: float = 7200.0
    """Seconds to wait for a round's verdict before giving up."""
    measure_every: int = 1
    """Rounds from one measurement on the silo's own validation set to the next; the last round is measured too."""


class WorkerSession:
    """Takes part in rounds until the job ends."""

    def __init__(
        self,
        client: AggregationClient,
        trainer: LocalTrainer,
        progress: Progress,
        plan: RoundPlan,
        state_file: Path,
        checkpoint_prefix: Path,
        info: CheckpointInfo,
        lease: float,
        leave: Optional[Leave] = None,
        measure: Optional[Measure] = None,
    ) -> None:
        """Prepare a session; the client holds the silo's lease already.

        Args:
            state_file: where the worker's own state is kept for a restart.
            checkpoint_prefix: the global model of iteration n goes to ``{checkpoint_prefix}-{n - 1}epoch.ckpt``;
                where the trainer keeps a moving average, that of this silo up to then, but for the last round.
            info: what the checkpoints say of the job; the round is filled in.
            lease: seconds of the lease.
            leave: a request to end before the job does.
            measure: measures the trainer's weights on the silo's validation set; None: it has none.
        """
        self._client = client
        self._trainer = trainer
        self._progress = progress
        self._plan = plan
        self._state_file = state_file
        self._prefix = checkpoint_prefix
        self._info = info
        self._leave = leave or Leave()
        self._measure = measure
        self._shapes = trainer.shapes()
        self._instance = plan.instance
        self._rounds = 0  # of the job
        self._iteration = 0
        self._phase = "starting"
        self._round = -1  # of the global model that the trainer holds or trained from
        self._trained = -1  # the newest round that the trainer trained for
        self._untaken = 0  # steps that it did not take in that round, as it closed meanwhile
        self._update: Optional[Update] = None
        self._heartbeat = Heartbeat(client, lease, self._status)

    def run(self) -> int:
        """Train rounds to the job's end. Returns the process's exit status."""
        try:
            self._resume()
            self._measure_first()
            while True:
                with self._leave.at_once():
                    ticket = self._join()
                    self._ask_rounds()
                    if not self._is_trained(ticket) and self._round != ticket.iteration - 1:
                        self._adopt(self._client.get_model(None))
                        if self._round != ticket.iteration - 1:
                            continue  # the round that was joined is over already
                if not self._is_trained(ticket):
                    try:
                        self._update = self._train(ticket)
                    except _RoundOver as over:
                        log.warning("%s", over)
                        continue
                with self._leave.at_once():
                    state = self._await_verdict(ticket) if self._push(ticket) else None
                if state is not None:
                    self._measure_model(state)
                    self._check(state)
        except _JobEnded as ended:
            return self._end(str(ended))
        except Leaving:
            log.info("leaving, as asked")
            return 0
        except NonFiniteLossError as error:
            log.error("non-finite loss: %s; nothing is pushed", error)
            self._client.report(self._iteration, "non-finite loss", str(error))
            return 1
        finally:
            self._phase = "leaving"
            self._heartbeat.stop()
            self._client.release()

    def _status(self) -> Dict:
        last = self._progress.last
        return {
            "phase": self._phase,
            "iteration": self._iteration,
            "epoch": max(last.step - 1, 0) // self._trainer.steps_per_epoch + 1,
            "step": last.step,
            "loss": last.loss,
        }

    def _resume(self) -> None:
        """Take up an earlier process's optimizer state, step and unfinished update."""
        state = load_state(self._state_file)
        if state is None or state.update.instance != self._instance:
            return
        if {name: array.size for name, array in state.update.weights.items()} != {
            name: array.size for name, array in self._trainer.get_weights().items()
        }:
            log.warning("%s is of another model and is not used", self._state_file)
            return
        self._trainer.load_state(state.optimizer, state.step)
        self._update = state.update
        self._trained = state.update.iteration
        log.info("going on after step %d, trained for round %d", state.step, state.update.iteration)

    def _check(self, state: str) -> None:
        """Leave the round where the job has ended or the lease is gone."""
        if state in ENDED:
            raise _JobEnded(state)
        if self._heartbeat.lost is not None:
            raise UserError(f"silo lease lost: {self._heartbeat.lost}")

    def _join(self) -> Ticket:
        """Be admitted to the round in progress."""
        self._phase = "joining"
        deadline = time.monotonic() + self._plan.join_deadline
        pause, told = 0.05, ""
        while True:
            ticket = self._client.start_round(self._trainer.num_samples, wait=POLL_SECONDS)
            self._check(ticket.state)
            if ticket.joined:
                self._iteration = ticket.iteration
                if ticket.instance != self._instance:
                    log.info("the job began anew as instance %s", ticket.instance)
                    self._instance, self._update = ticket.instance, None
                    self._round, self._trained, self._untaken = -1, -1, 0
                return ticket
            if ticket.reason != told:
                told = ticket.reason
                log.info("waiting to join: %s", told)
            if ticket.waits:  # another round's turn comes first, however long that round is
                deadline, pause = time.monotonic() + self._plan.join_deadline, 0.05
            elif time.monotonic() > deadline:
                raise UserError(
                    f"not admitted to a round for {self._plan.join_deadline:g} s "
                    f"(twice round.start_fl_job_time_window): {told}"
                )
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _ask_rounds(self) -> None:
        """Ask how many rounds the job has: the last one takes the trainer's final weights."""
        try:
            self._rounds = self._client.job().fl_iteration_num
        except ServerUnreachable as error:  # the round's own requests decide when a server is gone for good
            log.warning("the number of rounds is taken to be %d still: %s", self._rounds, error)

    def _is_trained(self, ticket: Ticket) -> bool:
        """Tell whether the update of this very round is at hand."""
        return self._update is not None and self._update.iteration == ticket.iteration

    def _is_over(self, ticket: Ticket) -> bool:
        """Tell whether the round that this worker trains for is known to be over: nobody waits for its update."""
        heard = self._heartbeat.heard
        return heard is not None and heard.instance == ticket.instance and heard.iteration > ticket.iteration

    def _train(self, ticket: Ticket) -> Update:
        """Train on the newest global model; the update is on disk before it is pushed."""
        log.info("round %d, attempt %d: training %d steps", ticket.iteration, ticket.attempt, self._plan.steps)
        self._phase = "training"
        losses = []

        def on_step(record: StepRecord) -> None:
            self._check(self._heartbeat.state)
            self._leave.check()
            losses.append(record.loss)
            self._progress.on_step(record)
            if self._is_over(ticket):
                self._trained, self._untaken = ticket.iteration, self._plan.steps - len(losses)
                raise _RoundOver(
                    f"round {ticket.iteration} closed without this silo after {len(losses)} of {self._plan.steps} "
                    f"steps ({time.monotonic() - began:.0f} s); it goes on from the newest model"
                )

        began = time.monotonic()
        self._progress.begin()
        self._trainer.train(self._plan.steps, on_step)
        self._progress.end_epoch()
        update = Update(
            instance=self._instance,
            iteration=ticket.iteration,
            loss=sum(losses) / len(losses),
            steps=len(losses),
            train_seconds=time.monotonic() - began,
            weights=self._trainer.final_weights() if ticket.iteration == self._rounds else self._trainer.get_weights(),
        )
        self._trained = ticket.iteration
        save_state(self._state_file, WorkerState(update, self._trainer.step, self._trainer.state()))
        return update

    def _push(self, ticket: Ticket) -> bool:
        """Send the update. False where the round would not have it; joining again tells what to do."""
        self._phase = "uploading"
        update = self._update
        reply = self._client.push(
            ticket,
            update.weights,
            self._trainer.num_samples,
            update.loss,
            {"steps": update.steps, "train_seconds": round(update.train_seconds, 3), "loss": update.loss},
        )
        self._check(reply.state)
        if not reply.accepted:
            log.warning(
                "round %d, attempt %d: the update of %d steps (%.0f s) is not taken: %s",
                *(ticket.iteration, ticket.attempt, update.steps, update.train_seconds, reply.reason),
            )
            time.sleep(0.2)
        return reply.accepted

    def _await_verdict(self, ticket: Ticket) -> Optional[str]:
        """Wait for the round's end; adopt the new global model where it was good and return the job's state."""
        self._phase = "waiting"
        deadline = time.monotonic() + self._plan.verdict_deadline
        while True:
            reply = self._client.get_model(ticket.iteration, wait=POLL_SECONDS)
            if reply.verdict == "good":
                self._adopt(reply)
                is_last = ticket.iteration == self._rounds
                self._save_checkpoint(reply.weights if is_last else self._trainer.final_weights())
                return reply.state
            self._check(reply.state)
            if reply.verdict == "failed":
                log.warning("round %d, attempt %d failed: %s", ticket.iteration, ticket.attempt, reply.reason)
                return None
            if time.monotonic() > deadline:
                raise UserError(
                    f"no verdict on round {ticket.iteration} for {self._plan.verdict_deadline:g} s "
                    "(twice round.global_iteration_time_window)"
                )

    def _adopt(self, reply: ModelReply) -> None:
        """Take a global model over into the trainer."""
        if reply.weights is None:
            raise UserError(f"the server sent no model: {reply.reason}")
        known = max(self._round, self._trained)
        missed = max(reply.round - known, 0) if known >= 0 else 0
        self._trainer.set_weights(reply.weights, missed * self._plan.steps + self._untaken)
        self._round, self._untaken = reply.round, 0
        self._update = None
        log.info("model of round %d received", reply.round)

    def _measure_first(self) -> None:
        """Measure the model that the worker begins with, before it holds up a round: the first time compiles."""
        if self._measure is None:
            return
        with self._leave.at_once():
            reply = self._client.get_model(None)
            self._check(reply.state)
            is_awaited = self._update is not None and self._update.iteration > reply.round
            if reply.weights is None or is_awaited:
                return
            self._adopt(reply)
        self._measure_model("running")

    def _measure_model(self, state: str) -> None:
        """Measure the global model just adopted where its round is due, and tell the server.

        Args:
            state: the job's; "finished" makes the round the last one.
        """
        if self._measure is None or (self._round % self._plan.measure_every and state != "finished"):
            return
        self._phase = "measuring"
        try:
            metrics = self._measure(self._leave.check)
            log.info("model of round %d on the silo's validation set: %s", self._round, _metrics(metrics))
            self._client.measured(self._instance, self._round, metrics)
        except UserError as error:  # a number less for the summary; the training is not held up by it
            log.error("the model of round %d is not measured: %s", self._round, error)

    def _save_checkpoint(self, weights: Weights) -> None:
        path = Path(f"{self._prefix}-{self._round - 1}epoch.ckpt")
        info = CheckpointInfo(**{**vars(self._info), "instance": self._instance, "round": self._round})
        write_checkpoint(path, weights, info, shapes=self._shapes, durable=False)

    def _end(self, state: str) -> int:
        """Say how the job ended; the process's exit status."""
        if state == "failed":
            log.error("the job failed: %s", self._client.job().reason)
            return 1
        log.info("the job is %s", state)
        return 0


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
