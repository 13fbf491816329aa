"""The rounds of a job as a state machine without I/O: who joined, who pushed, what ends a round and why.

A round (iteration n, attempt a) goes idle -> joining -> training -> updating -> averaging -> closing, and ends good
or failed. It closes when every silo that it admitted has pushed, or at a time window's end if enough have (k of n);
its sum never holds another update. A failed round keeps its number and is repeated as the next attempt.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Set

import numpy as np

from cross_silo.aggregation.missing import missing
from cross_silo.aggregation.participant import Answer, Key, Outcome, Participant, wait_for
from cross_silo.aggregation.past_rounds import PastRounds
from cross_silo.aggregation.windows import START, Window, running_windows
from cross_silo.config.federated import Round
from cross_silo.config.participation import AggregationTrigger, Participation
from cross_silo.protocol.schema import OUT_OF_TIME, REQUEST_ERROR, SUCCEED

RUNNING, DISABLED, FINISHED, ENDED_FAILED, STOPPED = "running", "disabled", "finished", "failed", "stopped"
"""States of a job."""
ENDED = (FINISHED, ENDED_FAILED, STOPPED)
IDLE, JOINING, TRAINING, UPDATING = "idle", "joining", "training", "updating"
AVERAGING, CLOSING = "averaging", "closing"
"""Phases of a round. Averaging: nobody joins or leaves any more, the last update is being added or the sum divided;
closing: the mean is complete and its checkpoint is being written."""
OPEN = (JOINING, TRAINING, UPDATING)
COMPLETE = (AVERAGING, CLOSING)
"""Phases in which a round has all its updates."""
FULL = "Current amount for startFLJob has reached the threshold. Please startFLJob later."


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
        participation: Optional[Participation] = None,
    ) -> None:
        """Begin before round ``iteration``.

        Args:
            last_iteration: good rounds after which the job is finished.
            clock: monotonic seconds.
            known: the silos that may take part, from name to node ("" where none is live).
            participation: how many silos a round needs; None: as ``settings`` say, without a trigger.
        """
        self.settings = settings
        self.participation = participation or settings.participation(AggregationTrigger())
        self.last_iteration = last_iteration
        self.iteration = iteration
        self.attempt = attempt
        self.state = FINISHED if iteration > last_iteration else RUNNING
        self.reason = ""
        """Why the job ended, where it did not end well."""
        self.phase = IDLE
        self.participants: Dict[str, Participant] = {}
        self.left_out: Dict[str, str] = {}
        """Silos that the round goes on without, and why."""
        self.failures_in_a_row = 0
        self.outcomes: List[Outcome] = []
        """Ended attempts that the owner has not taken yet."""
        self._clock = clock
        self._known = known
        self._seen: Dict[str, str] = {}  # silos that joined a round, and their nodes
        self._ready: Dict[str, Participant] = {}  # that wait for the draw
        self._barred: Set[str] = set()  # silos whose update was refused: not in this attempt
        self._sealed = False  # no update is admitted any more
        self._started = False  # a round did: later ones wait for live silos only, where those suffice
        self._past = PastRounds()
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
        if self.state != RUNNING:
            return Answer(OUT_OF_TIME, f"the job is {self.state}")
        if not 0 < samples < 2**31:
            return Answer(REQUEST_ERROR, f"data_size is {samples}, expected 1 to {2**31 - 1}")
        present = self.participants.get(silo)
        if present is not None:
            if present.worker != worker:  # started again: it takes its predecessor's place
                present.worker, present.node = worker, node
                present.samples = present.samples if present.admitted else samples
            return Answer(OUT_OF_TIME, f"Updating device metadata failed for fl id {silo}")
        if silo in self._barred:
            return wait_for(f"the update of silo {silo} was refused in this round")
        if not self._has_a_place():
            return wait_for(FULL)
        if self.phase == IDLE:
            self.phase = JOINING
            self._began = self._clock()
            self._first_push = self._last_push = 0.0
        candidates = self._ready if self.participation.draws else self.participants
        candidates[silo] = Participant(silo, worker, node, samples)
        self._seen[silo] = node
        self.left_out.pop(silo, None)
        self._start_if_all_there()
        if silo in self.participants:
            return Answer(SUCCEED, "success")
        if self.phase == JOINING:
            return wait_for(f"round {self.iteration} has {len(self._ready)} of {self._awaited()} silos to draw from")
        return wait_for(f"silo {silo} is not drawn for round {self.iteration}")

    def is_member(self, silo: str, worker: str) -> bool:
        """Tell whether this very worker is in the round in progress."""
        participant = self.participants.get(silo)
        return participant is not None and participant.worker == worker

    def may_push(self, silo: str, worker: str, iteration: int, attempt: Optional[int]) -> Answer:
        """Tell whether an update would be taken; changes nothing."""
        late = self._past.refusal(silo, iteration, attempt, self.key)
        if late:
            return Answer(OUT_OF_TIME, late)
        participant = self.participants.get(silo)
        if participant is None or participant.worker != worker:
            if silo in self.left_out:
                return Answer(OUT_OF_TIME, f"round {iteration} goes on without silo {silo}: {self.left_out[silo]}")
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
            self._first_push = self._first_push or self._last_push
            if self.phase == TRAINING:
                self.phase = UPDATING
            if self._admitted() == self.participation.enough:
                self._seal(f"{self.participation.enough} updates were enough (aggregation_trigger)")
        return answer

    def completes(self) -> bool:
        """Tell whether the one update that is about to be added is the round's last; then nobody joins or leaves."""
        waiting = [participant for participant in self.participants.values() if not participant.pushed]
        if self.phase == UPDATING and len(waiting) == 1 and waiting[0].admitted:
            self.phase = AVERAGING
            return True
        return False

    def added(self, key: Key, silo: str, loss: float, stats: Mapping[str, float]) -> bool:
        """Note that an admitted update is in the sum; one that :meth:`completes` the round was averaged with it.

        Returns whether the round has all its updates now.
        """
        if key != self.key or silo not in self.participants:
            return False
        participant = self.participants[silo]
        participant.pushed, participant.loss, participant.stats = True, loss, stats
        if self.phase == AVERAGING:
            self.phase = CLOSING
        else:
            self._close_if_all_in()
        return self.phase in COMPLETE

    @property
    def awaits_average(self) -> bool:
        """Whether all updates are in the sum, but it is not divided yet."""
        return self.phase == AVERAGING and all(participant.pushed for participant in self.participants.values())

    def averaged(self, key: Key) -> bool:
        """Note that the sum of round ``key`` is its mean. Returns whether that round is in progress."""
        if key == self.key and self.awaits_average:
            self.phase = CLOSING
            return True
        return False

    def report(self, silo: str, worker: str, key: Key, kind: str, detail: str) -> bool:
        """A participant says that it cannot go on. Returns whether the round fails with it."""
        if key != self.key:
            return False
        return self.lost(silo, worker, kind + (f": {detail}" if detail else ""))

    def lost(self, silo: str, worker: str, why: str, for_good: bool = False) -> bool:
        """A worker's update will not come. Returns whether the round fails, because the others do not suffice.

        Args:
            for_good: the silo is to wait for the next round; otherwise it may be back in time.
        """
        waiting = self._ready.get(silo)
        if waiting is not None and waiting.worker == worker:
            del self._ready[silo]
            if not self._ready:
                self.phase = IDLE
            return False
        if self.phase not in OPEN or not self.is_member(silo, worker) or self.participants[silo].admitted:
            return False
        others = len(self.participants) - 1
        if for_good:
            self._barred.add(silo)
        is_awaited = self.phase == JOINING and self.participation.most - len(self._barred) >= self.participation.least
        if (others < self.participation.least and not is_awaited) or not (others or for_good):
            self.fail(f"{self.participants[silo]}: {why}")
            return True
        del self.participants[silo]
        self.left_out[silo] = why
        self._close_if_all_in()
        return False

    def hopeless(self, iteration: int, attempt: Optional[int], worker: str) -> str:
        """Say why the round that a client waits for cannot become good for it; empty where it can."""
        if iteration > self.iteration:
            return f"round {iteration} has not begun: the server makes round {self.iteration}"
        failed = self._past.verdict(iteration, attempt, self.key)
        if failed is not None:
            return failed
        if self.state in ENDED and self.phase not in COMPLETE:
            return f"the job is {self.state}" + (f": {self.reason}" if self.reason else "")
        if worker and not any(member.worker == worker for member in self.participants.values()):
            return f"this worker is not in round {iteration} attempt {self.attempt}"
        return ""

    # What ends a round

    def succeed(self) -> None:
        """The round's model is in place."""
        self._past.closed(self.iteration, self.left_out)
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
        self._past.failed(self.key, full)
        self._end(False, full)
        self.attempt += 1
        if counts:
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= self.settings.max_consecutive_failures:
                self.end(ENDED_FAILED, f"{self.failures_in_a_row} failed rounds in a row; the last: {full}")

    def tick(self) -> None:
        """Act on a time window that has ended: go on with the silos that are there, or fail if they do not suffice."""
        if self.phase not in OPEN or self._sealed:
            return
        self._start_if_all_there()  # whom the start waited for may have died
        now, least = self._clock(), self.participation.least
        for window in self.windows():
            if window.left(now) > 0:
                continue
            if window.key == START and len(self._ready or self.participants) >= least:
                self._start()
            elif window.key != START and self._admitted() >= least:
                self._seal(f"did not push before the {window} ended")
            else:
                self.fail(f"{window} ended; {self._missing()}")
            return

    def windows(self) -> List[Window]:
        """Return the time windows that run."""
        if self.phase not in OPEN:
            return []
        return running_windows(self.settings, self.phase == JOINING, self._began, self._first_push)

    def end(self, state: str, reason: str = "") -> None:
        """End the job; a round in progress fails with it."""
        if self.state in ENDED:
            return
        self.state, self.reason = state, reason
        self.abandon(f"the job is {state}")

    def finish(self) -> None:
        """End the job well before its last round: the round in progress is dropped, which is no failure."""
        key = self.key
        self.end(FINISHED)
        self.outcomes = [outcome for outcome in self.outcomes if outcome.key != key]

    def abandon(self, reason: str) -> None:
        """Fail the round in progress for a reason that is nobody's fault, unless all its updates are in."""
        if self.phase in OPEN:
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

    # Within a round

    def _has_a_place(self) -> bool:
        """Tell whether another silo may join: at the start, or for one that is away while the start window is open."""
        if self.phase in (IDLE, JOINING):
            return True
        open_until = self._began + self.settings.start_fl_job_time_window / 1000
        has_place = len(self.participants) < self.participation.most and not self.participation.draws
        return has_place and self.phase in OPEN and not self._sealed and self._clock() < open_until

    def _awaited(self) -> int:
        """Return how many silos the start waits for: after the job's first round no longer for dead ones."""
        ready, least = self.participation.ready - len(self._barred), self.participation.least
        live = sum(1 for node in self._known().values() if node)
        return max(least, min(ready, live)) if self._started and live else ready

    def _admitted(self) -> int:
        return sum(participant.admitted for participant in self.participants.values())

    def _start_if_all_there(self) -> None:
        there = len(self._ready or self.participants)
        if self.phase == JOINING and there >= self._awaited():
            self._start()

    def _start(self) -> None:
        """Go on with the silos that are there; draw from them where the job draws."""
        self._note_who_is_away()
        if self._ready:
            names = sorted(self._ready)
            random = np.random.default_rng([self.participation.seed, *self.key])
            drawn = random.choice(len(names), min(self.participation.most, len(names)), replace=False)
            self.participants = {names[i]: self._ready[names[i]] for i in sorted(drawn)}
            self._ready = {}
        self._started = True
        self.phase = UPDATING if self._first_push else TRAINING
        self._close_if_all_in()

    def _note_who_is_away(self) -> None:
        if len(self._ready or self.participants) < self.participation.ready:
            away = [silo for silo in {**self._seen, **self._known()} if not self._is_there(silo)]
            self.left_out = {**dict.fromkeys(away, "away at the round's start"), **self.left_out}

    def _is_there(self, silo: str) -> bool:
        return silo in self._ready or silo in self.participants

    def _seal(self, why: str) -> None:
        """Admit no further update: the round goes on with those admitted."""
        self._sealed = True
        if self.phase == JOINING:
            self._note_who_is_away()
        for silo in [silo for silo, participant in self.participants.items() if not participant.admitted]:
            del self.participants[silo]
            self.left_out[silo] = why
        self.phase = UPDATING
        self._close_if_all_in()

    def _close_if_all_in(self) -> None:
        if self.phase == UPDATING and all(participant.pushed for participant in self.participants.values()):
            self.phase = AVERAGING

    def _end(self, good: bool, reason: str) -> None:
        participants = tuple(self.participants.values())
        now = self._clock()
        began = self._began if participants else now
        left_out = dict(self.left_out)
        self.outcomes.append(Outcome(self.key, good, reason, participants, began, self._last_push, now, left_out))
        self.participants, self._ready, self.left_out = {}, {}, {}
        self._sealed, self._barred = False, set()
        self.phase = IDLE

    def _missing(self) -> str:
        known = {**self._seen, **self._known()}
        return missing(self.participation, self.phase == JOINING, self._ready or self.participants, known)
