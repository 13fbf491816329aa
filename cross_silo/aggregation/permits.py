"""Who may send the shards of an update at present. At most as many updates are on their way as a server has buffers.

Without it, servers whose buffers hold shards of different updates would wait for each other.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Callable, Dict, Optional

from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.uploads import UploadPool


@dataclass
class Permit:
    """A worker's; one of the pool's places is kept for it."""

    key: Key
    silo: str
    worker: str
    in_use: bool = False
    """The first server's shard is being received or looked at."""


class Permits:
    """Thread-safe."""

    def __init__(self, pool: UploadPool, shards: Shards) -> None:
        self._pool = pool
        self._shards = shards
        self._lock = threading.Lock()
        self._permits: Dict[str, Permit] = {}

    def grant(self, key: Key, silo: str, worker: str, samples: int, wait: float) -> bool:
        """Keep a place for a worker and have the servers expect its shards. False: there is none within ``wait`` s.

        Raises:
            ServerLostError: one of the servers is gone.
        """
        if not self._pool.reserve(wait):
            return False
        permit = Permit(key, silo, worker)
        with self._lock:
            earlier = self._permits.pop(silo, None)
            self._permits[silo] = permit
        if earlier is not None and not earlier.in_use:
            self._pool.free()
        try:
            self._shards.expect(key, silo, worker, samples)
        except Exception:
            self.give_back(silo, worker, "")
            raise
        return True

    def take(self, worker: str, silo: str = "") -> Optional[Permit]:
        """Use the worker's permit for its upload, which is given its place; None where it has none.

        Args:
            silo: who asks, where that is known for certain: another silo's permit is not for it.
        """
        with self._lock:
            for permit in self._permits.values():
                if permit.worker == worker and silo in ("", permit.silo) and not permit.in_use:
                    permit.in_use = True
                    return permit
        return None

    def done(self, permit: Permit, added: bool, why: str) -> None:
        """The upload is over; its place has been given back with its buffer."""
        with self._lock:
            if self._permits.get(permit.silo) is permit:
                del self._permits[permit.silo]
            else:  # the worker began again meanwhile: its shards are another permit's
                added = True
        if not added:
            self._shards.drop(permit.key, permit.silo, why)

    def give_back(self, silo: str, worker: str, why: str) -> None:
        """A worker cannot send what it has a permit for; whoever waits for its shards hears of it."""
        with self._lock:
            permit = self._permits.get(silo)
            if permit is None or permit.worker != worker:
                return
            if not permit.in_use:
                del self._permits[silo]
        if why:
            self._shards.drop(permit.key, silo, why)
        if not permit.in_use:
            self._pool.free()

    def lapse(self, is_wanted: Callable[[Permit], bool]) -> None:
        """Take back the permits of those whose update is not wanted any more."""
        with self._lock:
            gone = [permit for permit in self._permits.values() if not permit.in_use and not is_wanted(permit)]
            for permit in gone:
                del self._permits[permit.silo]
        for permit in gone:
            self._pool.free()
            self._shards.drop(permit.key, permit.silo, "its worker did not send it in time")
