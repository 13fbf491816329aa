"""Our rounds beside the engine's iterations: who takes part, which iteration makes which round, and its verdict.

The engine sums and averages; it does not say whether an iteration failed, admits more workers than it should, and
counts failed iterations. So a silo first joins here, where every silo of the job is waited for; then all call the
engine. An attempt ends by the verdict of an iteration that its workers were told of, or as with the native engine when
a silo is lost. No worker enters a later iteration with the update of a round that an earlier one has made already.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, Mapping, Optional, Set, Tuple

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.missing import missing
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.participant import Kept, Key
from cross_silo.aggregation.rounds import CLOSING, IDLE, JOINING, Rounds
from cross_silo.config.federated import Round
from cross_silo.engines.mindspore_federated.record import Verdict
from cross_silo.protocol import headers
from cross_silo.protocol.schema import NEWEST

log = logging.getLogger(__name__)

MAX_DATA_SIZE = 65535
"""The largest data_size that the engine takes."""
GRACE_SECONDS = 15.0
"""The engine ends a round by its own windows; ours, for one that is gone, are longer by so much."""
LATE_SECONDS = 5.0
"""A verdict may come before the last worker has told of its update, or after one has joined the next iteration."""


def engine_sizes(samples: Mapping[str, int]) -> Dict[str, int]:
    """Return the data_size of each silo: its samples, all scaled by one factor where the engine would refuse one."""
    largest = max(samples.values(), default=1)
    if largest <= MAX_DATA_SIZE:
        return dict(samples)
    return {silo: max(round(count * MAX_DATA_SIZE / largest), 1) for silo, count in samples.items()}


def longer(settings: Round) -> Round:
    """Return ``settings`` with the windows that the engine keeps itself lengthened."""
    more = int(GRACE_SECONDS * 1000)
    return replace(
        settings,
        update_model_time_window=settings.update_model_time_window + more,
        global_iteration_time_window=settings.global_iteration_time_window + more,
    )


@dataclass(frozen=True)
class Place:
    """A silo's answer to its wish to take part."""

    joined: bool
    waits: bool
    reason: str
    key: Key
    size: int = 0
    """data_size for the engine."""
    number: int = 0
    """The silo's place among the participants, from which its server follows."""


class Mirror(Aggregator):
    """An aggregator whose sums another engine makes."""

    def __init__(
        self,
        rounds: Rounds,
        leases: Leases,
        path_of: Callable[[int], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up.

        Args:
            path_of: returns the checkpoint of a round; empty where there is none.
            clock: the one that ``rounds`` has.
        """
        super().__init__(rounds, leases, ModelStore({}), lambda *_: "", clock)
        self._iterations: Tuple[Key, Set[int]] = ((0, 0), set())
        self._sizes: Dict[Tuple[int, str], int] = {}
        self._path_of = path_of
        self._made: Dict[int, int] = Kept()  # which iteration of the engine made a round
        self._judged = 0  # the engine's newest iteration that had its verdict
        self._ending = False  # the round in progress is made; its last workers have yet to tell of their updates

    # for the routes

    def begin(self, silo: str, worker: str, samples: int, wait: float) -> Place:
        """Let a silo take part, and wait up to ``wait`` seconds until all do."""
        deadline = self._clock() + wait
        with self.changed:
            while True:
                answer = self.start_round(silo, worker, samples, max(deadline - self._clock(), 0.0))
                rounds = self.rounds
                if answer is None or not rounds.is_member(silo, worker):
                    waits = answer is None or answer.waits
                    return Place(False, waits, answer.reason if answer else "a round is being closed", rounds.key)
                if rounds.phase not in (IDLE, JOINING) and not self._ending:
                    members = rounds.participants
                    sizes = engine_sizes({name: member.samples for name, member in members.items()})
                    return Place(True, False, "", rounds.key, sizes[silo], sorted(members).index(silo))
                left = deadline - self._clock()
                if left <= 0 or self._leaving:
                    there, needed = len(rounds.participants), rounds.participation.ready
                    return Place(False, True, f"{there} of {needed} silos are there", rounds.key)
                self.changed.wait(left)

    def started(self, silo: str, worker: str, key: Key, iteration: int, size: int) -> Tuple[bool, int]:
        """Note that a worker joined ``iteration`` of the engine, unless its attempt is over.

        Returns whether it may go on, and the data_size that the engine has of it.
        """
        with self.changed:
            self.changed.wait_for(lambda: not 0 < self._judged < iteration - 1 or self._leaving, LATE_SECONDS)
            size = self._sizes.setdefault((iteration, silo), size)
            if key != self.rounds.key or self._ending or not self.rounds.is_member(silo, worker):
                return False, size
            if self._iterations[0] != key:
                self._iterations = (key, set())
            self._iterations[1].add(iteration)
            return True, size

    def pushed(self, silo: str, worker: str, key: Key, loss: float, stats: Mapping[str, float], size: int) -> bool:
        """Note that the engine took an update of ``size`` bytes."""
        with self.changed:
            if not self.rounds.admit(silo, worker, *key).ok:
                return False
            self._records.bytes_up += size
            self.rounds.completes()
            if self.rounds.added(self.rounds.key, silo, loss, stats):
                self._records.averaged_at = self._clock()
            self.changed.notify_all()
        return True

    def verdict(self, iteration: int, attempt: Optional[int], worker: str, wait: float) -> Tuple[str, str]:
        """Return verdict and reason of round ``iteration``, waiting up to ``wait`` seconds for it."""
        deadline = self._clock() + wait
        with self.changed:
            while True:
                if iteration < self.rounds.iteration:
                    return headers.GOOD, ""
                reason = self.rounds.hopeless(iteration, attempt, worker)
                if reason:
                    return headers.FAILED, reason
                left = deadline - self._clock()
                if left <= 0 or self._leaving:
                    return headers.PENDING, ""
                self.changed.wait(left)

    def made_by(self, round: int) -> int:
        """Return the number under which the engine has the model of ``round``; NEWEST where that is not known."""
        with self.changed:
            return self._made.get(round, NEWEST)

    # for the server's own threads

    def judge(self, verdict: Verdict, model_bytes: int) -> None:
        """Take over how an iteration of the engine ended.

        Args:
            model_bytes: what one worker is sent of a new model.
        """
        with self.changed:
            for noted in [key for key in self._sizes if key[0] <= verdict.iteration]:
                del self._sizes[noted]
            while self.rounds.good_rounds < verdict.round - verdict.good:
                log.warning("round %d was made, but its verdict was lost", self.rounds.iteration)
                self._succeed(self._path_of(self.rounds.iteration), 0.0)
            if verdict.good and verdict.round == self.rounds.iteration:
                if self._awaits(verdict.iteration):
                    self._await_last()
                self._made[verdict.round] = verdict.iteration
                self._records.bytes_down += model_bytes * len(self.rounds.participants)
                self._succeed(verdict.checkpoint, verdict.seconds)
            elif not verdict.good and self._awaits(verdict.iteration):
                self.rounds.fail(f"{verdict.reason.rstrip('. ')}{self._who()}")
                self._noted()
            elif not verdict.good:
                log.info("iteration %d, for which nobody waits, failed: %s", verdict.iteration, verdict.reason)
            self._judged = verdict.iteration
            self.changed.notify_all()

    def _await_last(self) -> None:
        """Let the workers of a round that is made tell of their updates; meanwhile nobody begins with it anew."""
        self._ending = True
        self.changed.wait_for(lambda: self.rounds.phase in (CLOSING, IDLE) or self._leaving, LATE_SECONDS)
        self._ending = False

    def tick(self) -> None:
        """Act on leases and windows that ended, and on an engine that gives no verdict."""
        super().tick()
        with self.changed:
            windows = self.rounds.settings.global_iteration_time_window / 1000
            waited = self._clock() - self._records.averaged_at if self.rounds.phase == CLOSING else 0.0
            path = self._path_of(self.rounds.iteration) if waited > LATE_SECONDS else ""
            if path:
                log.warning("round %d was made, but its verdict was lost", self.rounds.iteration)
                self._succeed(path, 0.0)
            elif waited > windows:
                self.rounds.fail(f"the engine gave no verdict for {windows:g} s")
                self._noted()

    def _awaits(self, iteration: int) -> bool:
        """Tell whether workers of the present attempt are in ``iteration`` of the engine, or in one lost before it."""
        key, iterations = self._iterations
        return key == self.rounds.key and any(joined <= iteration for joined in iterations)

    def _succeed(self, path: str, seconds: float) -> None:
        if self.rounds.phase != CLOSING:
            self._records.averaged_at = self._clock()
        self.rounds.succeed()
        self._noted(path, seconds)

    def _who(self) -> str:
        rounds = self.rounds
        absent = missing(rounds.participation, rounds.phase == JOINING, rounds.participants, self.leases.expected())
        return f" ({absent})" if absent else ""
