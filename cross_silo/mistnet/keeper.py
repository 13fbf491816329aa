"""Between a MistNet job, its feature trainer, Redis and the run directory: what each must know of the others."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.journal import Journal, Record
from cross_silo.aggregation.presence import live_silos, standing_of
from cross_silo.coordination.stopping import StopCheck
from cross_silo.coordination.store import ENDED
from cross_silo.mistnet.collection import Collection, received
from cross_silo.mistnet.store import FeatureStore
from cross_silo.mistnet.trainer_files import ROLE as TRAINER
from cross_silo.mistnet.trainer_files import SERVER as SERVER_DIR
from cross_silo.mistnet.trainer_files import Orders, Progress, read_progress
from cross_silo.report.summary import earlier_summary

log = logging.getLogger(__name__)

ROLE = "server"
BEAT_SECONDS = 2.0
POOLED = "server"
"""In place of a silo's name beside the loss of an epoch: the training sees the features of all of them mixed."""


class Keeper:
    """Stepped several times a second, by one thread."""

    def __init__(
        self,
        store: GuardedStore,
        collection: Collection,
        features: FeatureStore,
        job: Job,
        run_dir: Path,
        member: Mapping[str, Any],
        bits: Mapping[str, Any],
        summarise: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up.

        Args:
            member: what this process tells of itself: host, pid, start_time, address, run_dir.
            bits: what the checkpoints say of the bits at the cut.
            summarise: writes the run's summary from what Redis holds.
        """
        self._store = store
        self._collection = collection
        self._features = features
        self._job = job
        self._run_dir = run_dir
        self._info = dict(member)
        self._bits = dict(bits)
        self._node = f"{member['host']}:{member['pid']}"
        self._clock = clock
        self._beat_at = clock() - BEAT_SECONDS
        self._told: Dict[str, Any] = {}
        self._orders: Optional[Orders] = None
        self._ended = False
        self._stops = StopCheck(job.config.stop_condition)
        self._notes: Dict[str, str] = {}
        self._gone_since: Optional[float] = None
        metrics_file = run_dir / SERVER_DIR / job.config.summary.metrics_file
        self._journal = Journal(store, metrics_file, summarise)
        known = [*store.call(lambda s: s.rounds(), []), *earlier_summary(run_dir, job.instance).get("rounds", [])]
        self._recorded = {record["round"] for record in known}
        self._evaluated: Dict[int, Mapping[str, Any]] = {}

    def begin(self) -> None:
        """Write the job's fields to Redis anew."""
        fields = {**self._job.fields(), **self._standing(), **self._notes}
        if self._collection.rounds.state in ENDED:
            fields.update(state="running", reason="")
        if self._store.call(lambda s: (s.begin(fields), True)[1], False):
            self._told, self._ended, self._evaluated = self._standing(), False, {}

    def leave(self) -> None:
        """Be no member any more."""
        self._store.call(lambda s: (s.leave(ROLE, self._node), s.leave(TRAINER, TRAINER)), None)

    def step(self, bytes_down: int) -> None:
        """Do what is due.

        Args:
            bytes_down: bytes of the extractor that were sent.
        """
        progress = read_progress(self._run_dir)
        if progress is not None and progress.instance != self._job.instance:
            progress = None  # of an earlier run of the job
        records = self._follow(progress, bytes_down)
        self._order()
        now = self._clock()
        due = now - self._beat_at >= BEAT_SECONDS
        if due:
            self._beat_at = now
            self._beat(progress)
        standing = self._standing()
        if standing != self._told or due:
            self._tell(standing)
        self._journal.write(records)
        self._evaluate(progress)
        if due or records:
            self._check_stop()
        state, reason = self._collection.rounds.state, self._collection.rounds.reason
        if state in ENDED and not self._ended:
            self._ended = self._store.call(lambda s: (s.end(state, reason), True)[1], False)
            self._journal.summarise()
        for command, payload in self._store.call(lambda s: s.take_requests(), []):
            self._obey(command, payload)

    # the trainer

    def _order(self) -> None:
        """Tell the trainer what it must know."""
        collection = self._collection
        pool = collection.pool["silos"] if collection.pool is not None else {}
        root = str(self._features.root) if pool else ""
        orders = Orders(self._job.instance, collection.rounds.state, root, pool, self._bits)
        if orders != self._orders:
            orders.write(self._run_dir)
            self._orders = orders

    def _follow(self, progress: Optional[Progress], bytes_down: int) -> List[Record]:
        """Take what the trainer tells into the job's standing; return the records of epochs that are new."""
        rounds = self._collection.rounds
        if progress is None:
            return []
        new = [self._record(entry, bytes_down) for entry in progress.records if entry["epoch"] not in self._recorded]
        self._recorded |= {record["round"] for record in new}
        with self._collection.changed:
            done = max((entry["epoch"] for entry in progress.records), default=0)
            rounds.good_rounds = max(rounds.good_rounds, done)
            rounds.iteration = min(rounds.good_rounds + 1, rounds.last_iteration)
        if progress.outcome == "failed":
            self._collection.end("failed", progress.reason)
        elif progress.outcome == "done":
            self._collection.end("finished", progress.reason)
        else:
            self._watch(progress)
        return new

    def _watch(self, progress: Progress) -> None:
        """Wait so long for a trainer that died to be started again."""
        if progress.is_alive or self._collection.rounds.state in ENDED:
            self._gone_since = None
            return
        if self._gone_since is None:
            self._gone_since = self._clock()
            log.warning("the feature trainer is gone: the command that started it starts it again")
        patience = self._job.config.mistnet.deadline
        if self._clock() - self._gone_since > patience:
            self._collection.end("failed", f"the feature trainer is gone for {patience:g} s (mistnet.deadline)")

    def _record(self, entry: Mapping[str, Any], bytes_down: int) -> Record:
        """Return the record of an epoch as that of a round; the first one has the bytes of all features."""
        pool = self._collection.pool or {"images": 0}
        first = entry["epoch"] == 1
        sizes = received(self._features)
        up = sum(sizes[silo]["of"] for silo in pool.get("silos", ()) if silo in sizes)
        trained = {
            "silo": POOLED,
            "worker": TRAINER,
            "node": self._node,
            "samples": pool["images"],
            "loss": entry["loss"],
            "steps": entry["steps"],
            "train_seconds": entry["seconds"],
            "update_norm": None,
        }
        return {
            "round": entry["epoch"],
            "attempt": 1,
            "good": True,
            "reason": "",
            "participants": [trained],
            "left_out": self._collection.left_out() if first else {},
            "samples": pool["images"],
            "seconds": {
                "round": round(entry["seconds"] + entry["checkpoint_seconds"], 3),
                "training": round(entry["seconds"], 3),
                "aggregation": 0.0,
                "checkpoint": round(entry["checkpoint_seconds"], 3),
            },
            "bytes_up": up if first else 0,
            "bytes_down": bytes_down if first else 0,
            "ended": entry["ended"],
            "checkpoint": entry["checkpoint"],
        }

    # Redis and the summary

    def _standing(self) -> Dict[str, Any]:
        with self._collection.changed:
            rounds = self._collection.rounds
            return {
                **standing_of(rounds),
                "refused_updates": json.dumps(self._collection.refusals.counts()),
                "features": json.dumps(received(self._features)),
            }

    def _tell(self, standing: Dict[str, Any]) -> None:
        """Update the job's fields; begin anew where Redis lost them."""
        ended = standing["state"] in ENDED
        fields = {name: value for name, value in standing.items() if not (ended and name in ("state", "reason"))}
        known = self._store.call(lambda s: s.update(**fields), None)
        if known:
            self._told = standing
        elif known is False:
            log.warning("Redis lost the job's record: writing it again")
            self.begin()
            self._journal.redis_was_emptied()

    def _beat(self, progress: Optional[Progress]) -> None:
        collection = self._collection
        live = live_silos(collection.leases, self._clock())
        told = {
            **self._info,
            "told": time.time(),
            "windows": {} if collection.pool is not None else {"mistnet.deadline": collection.left},
            "joined": sorted(self._features.received()),
            "pushed": sorted(self._features.whole()),
            "left_out": collection.left_out(),
        }
        self._store.call(lambda s: (s.beat(ROLE, self._node, told), s.note_seen(live), s.touch()), None)
        if progress is not None and progress.is_alive:
            trains = {"pid": progress.pid, "phase": progress.phase, "epoch": progress.epoch, "step": progress.step}
            self._store.call(lambda s: s.beat(TRAINER, TRAINER, {**trains, "loss": progress.loss}), None)

    def _evaluate(self, progress: Optional[Progress]) -> None:
        """Give Redis the measurements that it lacks."""
        known = {int(epoch): metrics for epoch, metrics in progress.evaluations.items()} if progress else {}
        added = False
        for epoch in sorted(set(known) - set(self._evaluated)):
            metrics = known[epoch]
            if not self._store.call(
                lambda s, epoch=epoch, metrics=metrics: (s.add_evaluation(epoch, metrics), True)[1], False
            ):
                return
            self._evaluated[epoch] = metrics
            added = True
        if progress is not None and progress.best is not None:
            self._note("best", progress.best)
        if added:
            self._journal.summarise()

    def _check_stop(self) -> None:
        """Look at the stop condition where no scheduler does."""
        if self._collection.rounds.state != "running" or self._store.call(lambda s: s.members("scheduler"), {"?": {}}):
            return
        fired = self._store.call(lambda s: self._stops.look(s, s.job() or {}), None)
        if fired is not None:
            self._finish(fired._asdict())

    def _finish(self, stop: Mapping[str, Any]) -> None:
        """End the job because its stop condition is met."""
        self._collection.end("finished", "")
        self._note("stop", stop)

    def _note(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep ``content`` as a field of the job, too."""
        text = json.dumps(dict(content))
        if self._notes.get(name) != text and self._store.call(lambda s: s.update(**{name: text}), False):
            self._notes[name] = text
            self._journal.summarise()

    def _obey(self, command: str, payload: Mapping[str, Any]) -> None:
        log.info("asked to %s%s", command, f" with {json.dumps(dict(payload))}" if payload else "")
        if command == "stop":
            self._collection.end("stopped", str(payload.get("reason", "") or "stopped on request"))
        elif command == "finish":
            stop = dict(payload)
            if stop.pop("instance", "") == self._job.instance:
                self._finish(stop)
        else:
            log.warning("a MistNet job cannot be asked to %s", command)
