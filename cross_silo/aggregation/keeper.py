"""The server's dealings with Redis, in a thread of its own: presence, requests, records; and old checkpoints."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any, Callable, Dict, List, Mapping

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.journal import Journal, Record
from cross_silo.aggregation.presence import live_silos, standing_of
from cross_silo.aggregation.records import Measurement
from cross_silo.aggregation.rounds import ENDED, FINISHED, RUNNING, STOPPED, Rounds
from cross_silo.checkpoint import prune_checkpoints
from cross_silo.checkpoint.best import keep_best
from cross_silo.coordination.stopping import StopCheck

log = logging.getLogger(__name__)

ROLE = "server"
POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0
KEPT_CHECKPOINTS = 3

Standing = Dict[str, Any]


class Keeper:
    """Keeps Redis informed of the job, and the job of what operators ask through Redis."""

    def __init__(
        self,
        store: GuardedStore,
        aggregator: Aggregator,
        job: Job,
        journal: Journal,
        member: Mapping[str, Any],
        begin_anew: Callable[[Mapping[str, Any]], None],
        clock: Callable[[], float],
    ) -> None:
        """Set up.

        Args:
            member: what this process tells of itself: host, pid, start_time, address, run_dir.
            begin_anew: makes the job begin again at round 1 with the settings given; ValueError refuses them.
        """
        self._store = store
        self._aggregator = aggregator
        self._job = job
        self._journal = journal
        self._node = f"{member['host']}:{member['pid']}"
        self._info = dict(member)
        self._begin_anew = begin_anew
        self._clock = clock
        self._told: Standing = {}
        self._measured: List[Measurement] = []
        self._stops = StopCheck(job.config.stop_condition)
        self._notes: Dict[str, str] = {}  # stop and best, as Redis has them
        self._ended = False
        self._beat_at = clock() - BEAT_SECONDS
        self._to_prune = True
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Step until ``stop``."""
        while not stop.is_set():
            self._aggregator.recorded.wait(POLL_SECONDS)
            try:
                self.step()
            except Exception:  # a fault here must not end rounds
                log.exception("keeping the job's record")
                stop.wait(POLL_SECONDS)

    def step(self) -> None:
        """Do what is due."""
        with self._lock:
            standing = self._standing()
            records = self._aggregator.take_records()  # after the standing: an end is told after its last record
            due = self._clock() - self._beat_at >= BEAT_SECONDS
            if due:
                self._beat_at = self._clock()
                told, live = self._told_of_round(), live_silos(self._aggregator.leases, self._clock())
                self._store.call(lambda s: (s.beat(ROLE, self._node, told), s.note_seen(live), s.touch()), None)
            if standing != self._told or due or records:
                self._tell(standing)  # before the records: a Redis that lost some gets all of them in order
            self._record(records)
            self._note_measured()
            if due or records or standing["state"] in ENDED:
                self._note_best(self._store.call(lambda s: s.evaluations(), {}))
                self._check_stop(standing["state"])
            if standing["state"] in ENDED and not self._ended:
                reason = standing["reason"]
                self._ended = self._store.call(lambda s: (s.end(standing["state"], reason), True)[1], False)
            for command, payload in self._store.call(lambda s: s.take_requests(), []):
                self._obey(command, payload)

    def _told_of_round(self) -> Dict[str, Any]:
        """Return what this process tells of itself and of the round in progress."""
        with self._aggregator.changed:
            rounds, now = self._aggregator.rounds, self._clock()
            members = rounds.participants.values()
            return {
                **self._info,
                "told": time.time(),
                "windows": {f"round.{window.key}": window.left(now) for window in rounds.windows()},
                "joined": [member.silo for member in members],
                "pushed": [member.silo for member in members if member.pushed],
                "left_out": dict(rounds.left_out),
                "servers": self._aggregator.awaited.shown(),
            }

    def leave(self) -> None:
        """Be no member any more."""
        self._store.call(lambda s: s.leave(ROLE, self._node), None)

    def begin(self) -> None:
        """Write the job's fields to Redis anew."""
        standing = self._standing()
        state = RUNNING if standing["state"] in ENDED else standing["state"]
        fields = {**self._job.fields(), **standing, **self._notes, "state": state, "reason": ""}
        if self._store.call(lambda s: (s.begin(fields), True)[1], False):
            self._told = standing
            self._ended = False

    def _record(self, records: List[Record]) -> None:
        self._journal.write(records)
        self._to_prune = self._to_prune or any(record["good"] for record in records)
        if self._to_prune and self._prune():
            self._to_prune = False

    def _note_measured(self) -> None:
        """Give Redis the silos' measurements; those that it does not take are kept for the next time."""
        self._measured += self._aggregator.take_measured()
        noted = 0
        for round, silo, metrics in self._measured:
            kept = (round, silo, metrics)
            if not self._store.call(lambda s, kept=kept: (s.add_silo_evaluation(*kept), True)[1], False):
                break
            noted += 1
        if noted:
            del self._measured[:noted]
            self._journal.summarise()

    def _tell(self, standing: Standing) -> None:
        """Update the job's fields; begin anew where Redis lost them."""
        ended = standing["state"] in ENDED
        fields = {name: value for name, value in standing.items() if not (ended and name in ("state", "reason"))}
        known = self._store.call(lambda s: s.update(**fields), None)
        if known:
            self._told = standing
        elif known is False:
            log.warning("Redis lost the job's record: writing it again")
            self._store.call(lambda s: s.clear(), None)  # a record may have come in since
            self.begin()
            self._journal.redis_was_emptied()

    def _standing(self) -> Standing:
        with self._aggregator.changed:
            rounds = self._aggregator.rounds
            return {
                **standing_of(rounds),
                "refused_updates": json.dumps(self._aggregator.refusals.counts()),
            }

    def _prune(self) -> bool:
        """Delete old checkpoints that nobody waits for. False where that is to be tried again later."""
        protect: Any = ()
        if self._job.config.evaluation.annotations:
            state = self._store.call(lambda s: (s.members("evaluator"), s.evaluations()), None)
            if state is None:
                return False
            self._note_best(state[1])
            protect = self._job.awaiting_evaluation(state[1]) if state[0] else ()
        try:
            prune_checkpoints(self._job.checkpoint_dir, self._job.config.fl_name, KEPT_CHECKPOINTS, protect)
        except OSError as error:
            log.warning("old checkpoints in %s cannot be deleted: %s", self._job.checkpoint_dir, error.strerror)
        return True

    def _note_best(self, evaluations: Mapping[int, Mapping[str, Any]]) -> None:
        """Keep the best model evaluated so far, before its checkpoint is pruned, and say which it is."""
        if not evaluations:
            return
        job, metric = self._job, self._job.config.stop_condition.accuracy
        try:
            best = keep_best(job.checkpoint_dir, job.config.fl_name, job.instance, metric, evaluations)
        except OSError as error:
            log.warning("the best model in %s cannot be kept: %s", job.checkpoint_dir, error.strerror)
            return
        if best is not None:
            self._note("best", best._asdict())

    def _check_stop(self, state: str) -> None:
        """Look at the stop condition where no scheduler does; at a job's end, note whether it is what ended it."""
        if state not in (RUNNING, FINISHED) or "stop" in self._notes:
            return
        if state == RUNNING and self._store.call(lambda s: s.members("scheduler"), {"unknown": {}}):
            return
        fired = self._store.call(lambda s: self._stops.look(s, s.job() or {}), None)
        if fired is not None:
            log.info("%s", fired)
            self._finish(fired._asdict())

    def _finish(self, stop: Mapping[str, Any]) -> None:
        """End the job because its stop condition is met."""
        self._aggregator.control(Rounds.finish)
        if self._aggregator.rounds.state == FINISHED:
            self._note("stop", stop)

    def _note(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep ``content`` as a field of the job, too."""
        text = json.dumps(dict(content))
        if self._notes.get(name) != text and self._store.call(lambda s: s.update(**{name: text}), False):
            self._notes[name] = text
            self._journal.summarise()

    def _obey(self, command: str, payload: Mapping[str, Any]) -> None:
        log.info("asked to %s%s", command, f" with {json.dumps(payload)}" if payload else "")
        if command == "enable":
            self._aggregator.control(Rounds.enable)
        elif command == "disable":
            self._aggregator.control(Rounds.disable)
        elif command == "stop":
            reason = str(payload.get("reason", "") or "stopped on request")
            self._aggregator.control(lambda rounds: rounds.end(STOPPED, reason))
        elif command == "finish":
            stop = dict(payload)
            if stop.pop("instance", "") == self._job.instance:  # else it was begun anew meanwhile
                self._finish(stop)
        elif command == "new_instance":
            try:
                self._begin_anew(payload)
            except (ValueError, OSError) as error:
                log.error("no new instance: %s", error)
                return
            self._measured = []
            self._notes = {}
            self._journal.begin_anew()
            self._store.call(lambda s: s.clear(), None)
            self.begin()
