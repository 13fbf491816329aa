"""The rounds of a job as a state machine without I/O: who joined, who pushed, what ends a round and why.

A round (iteration n, attempt a) goes idle -> joining -> training -> updating -> closing, and ends good or failed.
Every silo that is needed takes part; a failed round keeps its number and is repeated as the next attempt.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Mapping, Optional, Tuple

from cross_silo.config.federated import Round
from cross_silo.protocol.schema import OUT_OF_TIME, REQUEST_ERROR, SUCCEED

RUNNING, DISABLED, FINISHED, ENDED_FAILED, STOPPED = "running", "disabled", "finished", "failed", "stopped"
"""States of a job."""
ENDED = (FINISHED, ENDED_FAILED, STOPPED)
IDLE, JOINING, TRAINING, UPDATING, CLOSING = "idle", "joining", "training", "updating", "closing"
"""Phases of a round."""
KEPT_REASONS = 256

Key = Tuple[int, int]
"""(iteration, attempt)."""


@dataclass
class Participant:
    """A silo in the round in progress."""

    silo: str
    worker: str
    """Worker id; empty for a client that sends none."""
    node: str
    samples: int
    admitted: bool = False
    """Its update is being added to the sum."""
    pushed: bool = False
    """Its update is in the sum."""
    loss: float = 0.0
    stats: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.silo} ({self.node})" if self.node else self.silo


@dataclass(frozen=True)
class Answer:
    """What a client is told: an engine's return code and text."""

    code: int
    reason: str

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return self.code == SUCCEED


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a round ended. Times are of the machine's clock, seconds."""

    key: Key
    good: bool
    reason: str
    participants: Tuple[Participant, ...]
    began: float
    last_push: float
    ended: float


class Rounds:
    """The state machine. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        settings: Round,
        last_iteration: int,
        clock: Callable[[], float],
        iteration: int = 1,
        attempt: int = 1,
        known: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Begin before round ``iteration``.

        Args:
            last_iteration: good rounds after which the job is finished.
            clock: monotonic seconds.
            known: the silos that may take part, from name to node ("" where unknown); for naming who is missing.
        """
        self.settings = settings
        self.last_iteration = last_iteration
        self.iteration = iteration
        self.attempt = attempt
        self.state = FINISHED if iteration > last_iteration else RUNNING
        self.reason = ""
        """Why the job ended, where it did not end well."""
        self.phase = IDLE
        self.participants: Dict[str, Participant] = {}
        self.failures_in_a_row = 0
        self.outcomes: List[Outcome] = []
        """Ended attempts that the owner has not taken yet."""
        self._clock = clock
        self._known = known
        self._failed: "OrderedDict[Key, str]" = OrderedDict()
        self._began = self._first_push = self._last_push = 0.0

    @property
    def key(self) -> Key:
        """The round in progress."""
        return self.iteration, self.attempt

    @property
    def good_rounds(self) -> int:
        """Rounds that ended well."""
        return self.iteration - 1

    @property
    def total_samples(self) -> int:
        """Sum of the participants' samples: the divisor of the average."""
        return sum(participant.samples for participant in self.participants.values())

    # What clients ask

    def join(self, silo: str, worker: str, node: str, samples: int) -> Answer:
        """Let a silo's worker, which holds its lease, take part in the round in progress."""
        present = self.participants.get(silo)
        if present is not None:
            if present.admitted and present.worker != worker:
                # its worker was started again after the push: the successor waits for the verdict in its place
                present.worker, present.node = worker, node
            return Answer(OUT_OF_TIME, f"Updating device metadata failed for fl id {silo}")
        if self.phase not in (IDLE, JOINING):
            return Answer(
                OUT_OF_TIME, "Current amount for startFLJob has reached the threshold. Please startFLJob later."
            )
        if not 0 < samples < 2**31:
            return Answer(REQUEST_ERROR, f"data_size is {samples}, expected 1 to {2**31 - 1}")
        if self.phase == IDLE:
            self.phase = JOINING
            self._began = self._clock()
            self._first_push = self._last_push = 0.0
        self.participants[silo] = Participant(silo, worker, node, samples)
        if len(self.participants) == self.settings.start_fl_job_threshold:
            self.phase = UPDATING if self._first_push else TRAINING
        return Answer(SUCCEED, "success")

    def is_member(self, silo: str, worker: str) -> bool:
        """Tell whether this very worker is in the round in progress."""
        participant = self.participants.get(silo)
        return participant is not None and participant.worker == worker

    def may_push(self, silo: str, worker: str, iteration: int, attempt: Optional[int]) -> Answer:
        """Tell whether an update would be taken; changes nothing."""
        if iteration != self.iteration:
            return Answer(
                OUT_OF_TIME,
                f"UpdateModel iteration number is invalid:{iteration}, current iteration:{self.iteration}",
            )
        if attempt is not None and attempt != self.attempt:
            why = self._failed.get((iteration, attempt), "it is over")
            return Answer(OUT_OF_TIME, f"attempt {attempt} of round {iteration}: {why}")
        participant = self.participants.get(silo)
        if participant is None or participant.worker != worker:
            return Answer(OUT_OF_TIME, f"devices_meta for {silo} is not set. Please retry later.")
        if participant.admitted:
            return Answer(OUT_OF_TIME, f"Updating metadata of UpdateModelClientList failed for fl id {silo}")
        return Answer(SUCCEED, "success not ready")

    def admit(self, silo: str, worker: str, iteration: int, attempt: Optional[int]) -> Answer:
        """Take a checked update: its owner adds it to the sum and then calls :meth:`added`."""
        answer = self.may_push(silo, worker, iteration, attempt)
        if answer.ok:
            self.participants[silo].admitted = True
            self._last_push = self._clock()
            if not self._first_push:
                self._first_push = self._last_push
                if self.phase == TRAINING:
                    self.phase = UPDATING
        return answer

    def is_last(self) -> bool:
        """Tell whether the one update that is now being added completes the round."""
        waiting = [participant for participant in self.participants.values() if not participant.pushed]
        return self.phase == UPDATING and len(waiting) == 1

    def added(self, key: Key, silo: str, loss: float, stats: Mapping[str, float]) -> bool:
        """Note that an admitted update is in the sum. Returns whether the round has all of them now."""
        if key != self.key or silo not in self.participants:
            return False
        participant = self.participants[silo]
        participant.pushed, participant.loss, participant.stats = True, loss, stats
        if self.phase == UPDATING and all(participant.pushed for participant in self.participants.values()):
            self.phase = CLOSING
            return True
        return False

    def report(self, silo: str, worker: str, key: Key, kind: str, detail: str) -> bool:
        """A participant says that it cannot go on; the round fails at once. Returns whether it did."""
        if key != self.key or not self.is_member(silo, worker) or self.participants[silo].pushed:
            return False
        self.fail(f"{self.participants[silo]}: {kind}" + (f": {detail}" if detail else ""))
        return True

    def lost(self, silo: str, worker: str, why: str) -> bool:
        """A worker is gone; the round fails where its update is still awaited. Returns whether it did."""
        if self.phase not in (JOINING, TRAINING, UPDATING) or not self.is_member(silo, worker):
            return False
        if self.participants[silo].admitted:
            return False
        self.fail(f"{self.participants[silo]}: {why}")
        return True

    def verdict(self, iteration: int, attempt: Optional[int]) -> Optional[str]:
        """Return why an attempt at the round in progress failed; None while it may still become good."""
        if iteration != self.iteration or attempt is None or attempt >= self.attempt:
            return None
        return self._failed.get((iteration, attempt), f"attempt {attempt} of round {iteration} is over")

    # What ends a round

    def succeed(self) -> None:
        """The round's model is in place."""
        self._end(True, "")
        self.failures_in_a_row = 0
        self.iteration += 1
        self.attempt = 1
        if self.iteration > self.last_iteration and self.state not in ENDED:
            self.state = FINISHED

    def fail(self, reason: str, counts: bool = True) -> None:
        """The round in progress is void; too many in a row end the job."""
        iteration, attempt = self.key
        full = f"round {iteration} attempt {attempt} failed: {reason}"
        self._failed[self.key] = full
        while len(self._failed) > KEPT_REASONS:
            self._failed.popitem(last=False)
        self._end(False, full)
        self.attempt += 1
        if counts:
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= self.settings.max_consecutive_failures:
                self.end(ENDED_FAILED, f"{self.failures_in_a_row} failed rounds in a row; the last: {full}")

    def tick(self) -> None:
        """Fail the round if one of its time windows has ended."""
        if self.phase in (IDLE, CLOSING):
            return
        now, settings = self._clock(), self.settings
        for name, window, since, applies in (
            ("startFLJob", settings.start_fl_job_time_window, self._began, self.phase == JOINING),
            ("updateModel", settings.update_model_time_window, self._first_push, bool(self._first_push)),
            ("global iteration", settings.global_iteration_time_window, self._began, True),
        ):
            if applies and now - since >= window / 1000:
                self.fail(f"{name} window of {window / 1000:g} s ended; {self._missing()}")
                return

    def end(self, state: str, reason: str = "") -> None:
        """End the job; a round in progress fails with it."""
        if self.state in ENDED:
            return
        self.state, self.reason = state, reason
        self.abandon(f"the job is {state}")

    def abandon(self, reason: str) -> None:
        """Fail the round in progress for a reason that is nobody's fault, unless its model is being saved."""
        if self.phase not in (IDLE, CLOSING):
            self.fail(reason, counts=False)

    def disable(self) -> None:
        """Stop making rounds until :meth:`enable`; the round in progress is void and does not count."""
        if self.state == RUNNING:
            self.state = DISABLED
            self.abandon("the job was disabled")

    def enable(self) -> None:
        """Make rounds again."""
        if self.state == DISABLED:
            self.state = RUNNING

    def take_outcomes(self) -> List[Outcome]:
        """Return the attempts that ended since the last call."""
        taken, self.outcomes = self.outcomes, []
        return taken

    def _end(self, good: bool, reason: str) -> None:
        participants = tuple(self.participants.values())
        now = self._clock()
        self.outcomes.append(
            Outcome(self.key, good, reason, participants, self._began if participants else now, self._last_push, now)
        )
        self.participants = {}
        self.phase = IDLE

    def _missing(self) -> str:
        """Say who is in the way of the round's end."""
        joined = self.participants.values()
        needed = self.settings.start_fl_job_threshold
        parts = []
        if len(joined) < needed:
            parts.append(f"joined {len(joined)} of {needed}: {', '.join(map(str, joined))}")
            known = sorted(self._known().items())
            absent = [f"{name} ({node})" if node else name for name, node in known if name not in self.participants]
            count = needed - len(joined)
            named = f" ({', '.join(absent)})" if absent else ""
            parts.append(f"{count} missing silo{'s' if count > 1 else ''}{named} did not join")
        late = [str(participant) for participant in joined if not participant.admitted]
        if late and len(joined) == needed:
            parts.append(f"{', '.join(late)} joined but did not push")
        return "; ".join(parts)
