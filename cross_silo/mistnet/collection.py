"""A MistNet job at its server: which silo has delivered, when that is enough, and how training stands then."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.refusals import Refusals
from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError
from cross_silo.launch.record import read_json, write_json
from cross_silo.mistnet.store import FeatureStore
from cross_silo.protocol.http_service import HttpError

log = logging.getLogger(__name__)

COLLECTING, TRAINING = "collecting", "training"
POOL = "pool.json"
"""Beside the silos' directories: whose features are trained on. It is written once."""
Fetch = Callable[[str, str, Path], None]
"""Brings the file of a silo with a SHA-256 to a path. Raises UserError."""


@dataclass
class Standing:
    """Where the job stands; the names are those of a job of rounds, a round being an epoch of the server."""

    last_iteration: int
    state: str = "running"
    reason: str = ""
    iteration: int = 1
    attempt: int = 1
    phase: str = COLLECTING
    good_rounds: int = 0


class Collection:
    """Waits for the silos' features and decides when there are enough. Thread-safe."""

    def __init__(
        self,
        store: FeatureStore,
        leases: Leases,
        least: int,
        deadline: float,
        epochs: int,
        clock: Callable[[], float],
        fetch: Optional[Fetch] = None,
    ) -> None:
        """Go on from what ``store`` has.

        Args:
            leases: their ``most`` is the number of silos awaited.
            least: silos that are enough when the deadline has passed.
            deadline: seconds from now.
            fetch: for features by way of an object storage.
        """
        self.leases = leases
        self.refusals = Refusals()
        self.changed = threading.Condition()
        self.rounds = Standing(epochs)
        self._store = store
        self._least = least
        self._deadline = deadline
        self._clock = clock
        self._began = clock()
        self._fetch = fetch
        self._fetching: Dict[str, threading.Thread] = {}
        self._problems: Dict[str, str] = {}
        self._told = set(store.whole())
        self.pool: Optional[Dict[str, Any]] = read_json(store.root / POOL)
        """Whose features are trained on; None: that is not decided yet."""
        if self.pool is not None:
            self.rounds.phase = TRAINING

    @property
    def left(self) -> float:
        """Seconds to the deadline."""
        return max(self._began + self._deadline - self._clock(), 0.0)

    def tick(self) -> None:
        """Decide, if it is time."""
        with self.changed:
            if self.pool is not None or self.rounds.state in ENDED:
                return
            whole = self._store.whole()
            awaited = self.leases.most
            if len(whole) < awaited and self.left > 0:
                return
            late = f"{len(whole)} of {awaited} silos have delivered their features within {self._deadline:g} s"
            if len(whole) < min(self._least, awaited):
                self._end("failed", f"{late} (mistnet.deadline), expected at least {self._least} (mistnet.min_silos)")
                return
            if len(whole) < awaited:
                log.warning("%s: the training begins without the others", late)
            pool = {silo: self._store.directory(silo).name for silo in whole}
            write_json(self._store.root / POOL, {"silos": pool, "images": sum(o.count for o in whole.values())})
            self.pool = read_json(self._store.root / POOL)
            self.rounds.phase = TRAINING
            self.changed.notify_all()
        log.info("features of %s: %d images", ", ".join(pool), sum(offer.count for offer in whole.values()))

    def end(self, state: str, reason: str) -> None:
        """End the job, unless it has ended."""
        with self.changed:
            self._end(state, reason)

    def _end(self, state: str, reason: str) -> None:
        if self.rounds.state not in ENDED:
            self.rounds.state, self.rounds.reason = state, reason
            self.changed.notify_all()

    def left_out(self) -> Dict[str, str]:
        """Return why a silo's features are not trained on, by silo."""
        if self.pool is None:
            return {}
        known = {*self._store.received(), *self.leases.expected()}
        return {silo: "its features came too late" for silo in sorted(known) if silo not in self.pool["silos"]}

    # what the routes ask

    def refuse_late(self, silo: str) -> None:
        """Raise HttpError where no features of ``silo`` are taken any more."""
        state = self.rounds.state
        if state in ENDED:
            raise HttpError(403, f"the job is {state}: no features are taken any more")
        if self.pool is not None:
            raise HttpError(403, f"the training has begun without silo {silo!r}: its features come too late")

    def delivered(self, silo: str) -> None:
        """Hear that all features of a silo are here."""
        with self.changed:
            new = silo not in self._told
            self._told.add(silo)
        if new:
            offer = self._store.offered(silo)
            log.info("silo %s has delivered %d images, %.1f MB", silo, offer.count, offer.bytes / 1e6)

    def release(self, silo: str, worker: str) -> bool:
        """Take a lease back."""
        return self.leases.release(silo, worker)

    def fetch(self, silo: str) -> Optional[str]:
        """Take a silo's features from the object storage, in a thread; return why that failed the last time."""
        if self._fetch is None:
            raise HttpError(409, "transmitter.channel is http: features are sent to the server itself")
        with self.changed:
            problem = self._problems.pop(silo, None)
            running = self._fetching.get(silo)
            if problem is None and (running is None or not running.is_alive()):
                thread = threading.Thread(target=self._take, args=(silo, self._fetch), daemon=True)
                self._fetching[silo] = thread
                thread.start()
        return problem

    def _take(self, silo: str, fetch: Fetch) -> None:
        try:
            for file in self._store.offered(silo).files:
                if not (self._store.directory(silo) / file.name).exists():
                    fetch(silo, file.sha256, self._store.part(silo, file.name))
                    if not self._store.finish(silo, file.name):
                        raise UserError(f"file {file.name} is not that of the manifest")
        except Exception as error:  # the silo is told, whatever it is
            log.warning("features of silo %s cannot be taken: %s", silo, error)
            self._problems[silo] = str(error) if isinstance(error, UserError) else type(error).__name__


def received(store: FeatureStore) -> Mapping[str, Mapping[str, int]]:
    """Return how much of each silo's features is here: bytes, of how many, images."""
    found = {}
    for silo, size in store.received().items():
        offer = store.offered(silo)
        found[silo] = {"bytes": size, "of": offer.bytes, "images": offer.count}
    return found
