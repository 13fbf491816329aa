"""The aggregator's core: rounds, sum and model together, for many threads at once; no HTTP in it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Mapping, Optional

import numpy as np

from cross_silo.aggregation.awaited_servers import AwaitedServers
from cross_silo.aggregation.journal import Record
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.models import ModelAnswer, ModelStore
from cross_silo.aggregation.participant import Answer, Key
from cross_silo.aggregation.records import Measurement, Records
from cross_silo.aggregation.refusals import Refusals
from cross_silo.aggregation.rounds import AVERAGING, CLOSING, COMPLETE, ENDED, FINISHED, OPEN, RUNNING, Rounds
from cross_silo.aggregation.shard_link import ServerLostError
from cross_silo.aggregation.sharded_sum import EXPECTED_FAILURES, make_round_sum
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.config.aggregation import Aggregation
from cross_silo.protocol import headers
from cross_silo.protocol.schema import NEWEST, OUT_OF_TIME

log = logging.getLogger(__name__)

Save = Callable[[int, Mapping[str, np.ndarray]], str]
"""Writes the checkpoint of a round durably and returns its path; OSError where the disk refuses."""


class Aggregator:
    """Threads of the HTTP service call in; one thread of its own closes rounds, another one keeps time."""

    def __init__(
        self,
        rounds: Rounds,
        leases: Leases,
        models: ModelStore,
        save: Save,
        clock: Callable[[], float] = time.monotonic,
        aggregation: Aggregation = Aggregation(),  # noqa: B008
        shards: Optional[Shards] = None,
    ) -> None:
        """Set up.

        Args:
            save: writes a round's checkpoint.
            clock: the one that ``rounds`` has.
            shards: the job's other servers, where it has any.
        """
        self.rounds = rounds
        self.leases = leases
        self.models = models
        self.changed = threading.Condition()
        """Guards ``rounds``; notified whenever they change."""
        self._shards = shards
        self._sum = make_round_sum(aggregation, models, shards)
        if shards is not None:
            shards.on_lost, shards.on_back = self._server_lost, lambda: self.control(lambda _: None)
        self.refusals = Refusals()
        self._save = save
        self._clock = clock
        self._records = Records()
        self.awaited = AwaitedServers(shards)
        """The job's other servers."""
        self._leaving = False

    @property
    def recorded(self) -> threading.Event:
        """Set when there are records or measurements to take."""
        return self._records.recorded

    # for the service

    def start_round(self, silo: str, worker: str, samples: int, wait: float = 0.0) -> Optional[Answer]:
        """Let a silo join; None while a round is being closed (ask again).

        Args:
            wait: seconds to wait for a place in a round.
        """
        deadline = self._clock() + wait
        with self.changed:
            while True:
                answer = self._join(silo, worker, samples)
                left = deadline - self._clock()
                if (answer is not None and not answer.waits) or left <= 0 or self._leaving or not self.running:
                    return answer
                self.changed.wait(left)

    def _join(self, silo: str, worker: str, samples: int) -> Optional[Answer]:
        lease = self.leases.holder(silo)
        if (lease is None and worker) or (lease is not None and lease.worker != worker):
            holder = f"held by {lease.node}" if lease is not None else "free: ask for its lease first"
            return Answer(OUT_OF_TIME, f"silo {silo} is not leased to this worker; it is {holder}")
        if self.rounds.phase in COMPLETE:
            return None
        refusal = self.awaited.refusal() if self.running else None
        if refusal is not None:
            return replace(refusal, key=self.rounds.key)
        before = self.rounds.phase, len(self.rounds.participants)
        answer = self.rounds.join(silo, worker, lease.node if lease is not None else "", samples)
        if before != (self.rounds.phase, len(self.rounds.participants)):
            self.changed.notify_all()
        return replace(answer, key=self.rounds.key)

    def may_push(self, silo: str, worker: str, iteration: int, attempt: Optional[int]) -> Answer:
        """Tell whether an update would be taken, and in which round."""
        with self.changed:
            answer = self.rounds.may_push(silo, worker, iteration, attempt)
            return (
                replace(answer, key=self.rounds.key, samples=self.rounds.participants[silo].samples)
                if answer.ok
                else answer
            )

    def exclude(self, silo: str, worker: str, key: Key, why: str) -> None:
        """Go on without a silo whose update was refused; it waits for the next round."""
        with self.changed:
            if key == self.rounds.key:
                self.rounds.lost(silo, worker, why, for_good=True)
                self._noted()

    def push(self, silo: str, worker: str, iteration: int, attempt: Optional[int], update: CheckedUpdate) -> Answer:
        """Add an update to the round's sum."""
        with self.changed:
            answer = self.rounds.admit(silo, worker, iteration, attempt)
            key = self.rounds.key
            if not answer.ok:
                return answer
            self._records.bytes_up += update.size
        try:
            self._add(key, silo, replace(update, silo=silo))
        except EXPECTED_FAILURES as error:
            self._fail(key, str(error), counts=not isinstance(error, ServerLostError))
        except Exception as error:
            log.exception("adding the update of %s", silo)
            self._fail(key, f"the update of {silo} cannot be added: {error}")
        return answer

    def _add(self, key: Key, silo: str, update: CheckedUpdate) -> None:
        """Add an admitted update to the sum of round ``key``, unless that round is over by now."""
        with self._sum.lock:
            with self.changed:
                if key != self.rounds.key:
                    return
                last_of = self.rounds.total_samples if self.rounds.completes() else None
            self._sum.add(key, update, last_of)
            if last_of is not None:
                self.models.stamp(self._sum.place, key[0])
            with self.changed:
                if self.rounds.added(key, silo, update.loss, update.stats):
                    self._records.averaged_at = self._clock()
                self.changed.notify_all()

    def model(self, iteration: int, attempt: Optional[int], worker: str, wait: float) -> ModelAnswer:
        """Return the model of round ``iteration``, or say that it is pending or failed.

        Args:
            iteration: a round; one that is over, or NEWEST, gives the newest good model.
            attempt: the attempt that the client joined, where it says so.
            worker: id of the client's worker; empty for a client that sends none.
            wait: seconds to wait for a verdict.
        """
        deadline = self._clock() + wait
        with self.changed:
            while True:
                rounds = self.rounds
                if iteration < rounds.iteration or iteration == NEWEST or (iteration > rounds.iteration and not worker):
                    return ModelAnswer(headers.GOOD, "", self.models.read())
                reason = rounds.hopeless(iteration, attempt, worker)
                if reason:
                    return ModelAnswer(headers.FAILED, reason)
                if rounds.phase == CLOSING and wait > 0:
                    return self._early(rounds)
                left = deadline - self._clock()
                if left <= 0 or self._leaving:
                    return ModelAnswer(headers.PENDING, f"The model is not ready yet for iteration {iteration}")
                self.changed.wait(left)

    def _early(self, rounds: Rounds) -> ModelAnswer:
        """Give out the new model while its checkpoint is written: the end of the reply waits for the verdict."""
        key = rounds.key

        def settle() -> bool:
            with self.changed:
                self.changed.wait_for(lambda: rounds.key != key)
                return rounds.good_rounds >= key[0]

        finishes = key[0] == rounds.last_iteration and rounds.state == RUNNING
        state = FINISHED if finishes else rounds.state
        status = {headers.STATE: state, headers.ITERATION: str(key[0] + 1), headers.ATTEMPT: "1"}
        return ModelAnswer(headers.GOOD, "", self.models.read_draft(self._sum.place, key[0]), settle, status)

    def report(self, silo: str, worker: str, iteration: int, attempt: int, kind: str, detail: str) -> bool:
        """A worker says that it cannot push. Returns whether its round fails for it."""
        with self.changed:
            done = self.rounds.report(silo, worker, (iteration, attempt), kind, detail)
            self._noted()
        return done

    def measured(self, silo: str, worker: str, round: int, metrics: Mapping[str, float]) -> bool:
        """A silo measured the model of a good round on images of its own. Returns whether it is noted."""
        lease = self.leases.holder(silo)
        with self.changed:
            known = lease is not None and lease.worker == worker and 0 <= round <= self.rounds.good_rounds
            if known:
                self._records.add_measured(round, silo, metrics)
        return known

    def release(self, silo: str, worker: str) -> bool:
        """A worker leaves; a round that awaits its update goes on without it, or fails."""
        held = self.leases.release(silo, worker)
        with self.changed:
            self.rounds.lost(silo, worker, "left before it pushed")
            self._noted()
        return held

    def sent(self, size: int) -> None:
        """Count bytes of a model that left."""
        with self.changed:
            self._records.bytes_down += size

    def status(self) -> Dict[str, str]:
        """Return the headers that tell any client where the job is."""
        rounds = self.rounds
        with self.changed:
            return {
                headers.STATE: rounds.state,
                headers.ITERATION: str(rounds.iteration),
                headers.ATTEMPT: str(rounds.attempt),
            }

    @property
    def running(self) -> bool:
        """Whether rounds are made at present."""
        return self.rounds.state == RUNNING

    # for the server's own threads

    def tick(self) -> None:
        """Act on leases and time windows that ended."""
        gone = self.leases.expire()
        with self.changed:
            before = self.rounds.key, self.rounds.phase
            for lease in gone:
                why = f"no heartbeat for {self.leases.seconds:g} s (lease)"
                log.warning("silo %s (%s): %s", lease.silo, lease.node, why)
                self.rounds.lost(lease.silo, lease.worker, why)
            self.rounds.tick()
            overdue = ""
            if self.running and self.rounds.phase not in COMPLETE:  # a model that is being saved needs no server
                overdue = self.awaited.overdue(self.rounds.settings, self._clock())
            if overdue:
                self.rounds.fail(overdue)
            if before != (self.rounds.key, self.rounds.phase):
                self._noted()

    def _server_lost(self, reason: str) -> None:
        """Another server and what it had of the round in progress is gone."""
        with self.changed:
            if self.rounds.phase in (*OPEN, AVERAGING):
                self.rounds.fail(reason, counts=False)
            self._noted()

    def close_rounds(self, stop: threading.Event) -> None:
        """Save and publish the model of each complete round until ``stop``."""
        while not stop.is_set():
            with self.changed:
                if not self.changed.wait_for(self._is_complete, timeout=0.2):
                    continue
            self.close_round()

    def _is_complete(self) -> bool:
        return self.rounds.awaits_average or self.rounds.phase == CLOSING

    def close_round(self) -> None:
        """Save the complete round's model and make it the good one; without a checkpoint the round fails."""
        if self.rounds.awaits_average and not self._average():
            return
        key = self.rounds.key
        began = self._clock()
        model = self._sum.place
        try:
            path = self._save(key[0], model.tensors)
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("checkpoint of round %d", key[0])
            self._fail(key, f"its checkpoint cannot be written: {getattr(error, 'strerror', None) or error}")
            return
        if self._shards is not None:
            self._shards.commit(model.tag, key[0])
        with self.changed:
            self.models.publish(model, key[0])
            self.rounds.succeed()
            self._noted(path, self._clock() - began)

    def _average(self) -> bool:
        """Divide the sum of a round that turned out complete after its last update was added."""
        with self._sum.lock:
            with self.changed:
                key, samples = self.rounds.key, self.rounds.total_samples
            try:
                self._sum.divide(samples)
            except Exception as error:  # this thread closes later rounds, too
                if not isinstance(error, EXPECTED_FAILURES):
                    log.exception("averaging round %d", key[0])
                self._fail(key, str(error) or type(error).__name__, counts=not isinstance(error, ServerLostError))
                return False
            self.models.stamp(self._sum.place, key[0])
            with self.changed:
                done = self.rounds.averaged(key)
                self._records.averaged_at = self._clock()
                self.changed.notify_all()
        return done

    def _fail(self, key: Key, reason: str, counts: bool = True) -> None:
        """Fail round ``key`` if it is still in progress."""
        with self.changed:
            if key == self.rounds.key:
                self.rounds.fail(reason, counts)
                self._noted()

    def _noted(self, checkpoint: str = "", checkpoint_seconds: float = 0.0) -> None:
        """Turn ended attempts into records and wake whoever waits; the caller holds :attr:`changed`."""
        self._records.add(self.rounds.take_outcomes(), checkpoint, checkpoint_seconds)
        self.changed.notify_all()

    def take_records(self) -> List[Record]:
        """Return the records of attempts that ended since the last call."""
        with self.changed:
            return self._records.take()

    def take_measured(self) -> List[Measurement]:
        """Return the silos' measurements since the last call."""
        with self.changed:
            return self._records.take_measured()

    def control(self, action: Callable[[Rounds], None]) -> None:
        """Change the rounds (enable, disable, end) and tell everybody."""
        with self.changed:
            action(self.rounds)
            self._noted()

    def leave(self) -> None:
        """Let nobody wait any longer: the server is about to go."""
        with self.changed:
            self._leaving = True
            self.changed.notify_all()

    @contextmanager
    def paused(self, reason: str) -> Iterator[None]:
        """Have no round in progress for a while. Raises ValueError where the job has ended."""
        with self.changed:
            rounds = self.rounds
            if rounds.state in ENDED:
                raise ValueError(f"the job is {rounds.state}")
            was_running = rounds.state == RUNNING
            rounds.abandon(reason)
            rounds.disable()
            self._noted()
            self.changed.wait_for(lambda: rounds.phase not in COMPLETE)
        try:
            yield
        finally:
            if was_running:
                self.control(Rounds.enable)

    def begin_anew(self, rounds: Rounds) -> None:
        """Make ``rounds`` from round 1 on, from the present model."""
        with self._sum.lock:
            self._sum.reset()
            if self._shards is not None:
                self._shards.begin_anew()
            with self.changed:
                self.rounds = rounds
                self.models.renumber(0)
                self._records.take_measured()
                self.refusals.begin_with({})
                self._noted()
