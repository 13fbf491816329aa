"""Which worker speaks for which silo. Redis decides who gets a lease; the server times it by its own clock.

A worker renews its lease by heartbeats; one that is silent for the length of the lease counts as dead.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from cross_silo.aggregation.guarded_store import GuardedStore


class LeaseRefusedError(Exception):
    """The silo cannot be had; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str, holder: Optional[Mapping[str, Any]] = None, left: float = 0) -> None:
        """Args: ``holder`` is what the silo's worker told of itself, ``left`` the seconds of its lease."""
        super().__init__(message)
        self.status, self.holder, self.left = status, holder, left


@dataclass
class Lease:
    """One silo's live worker."""

    silo: str
    worker: str
    ends: float
    """Of the server's clock."""
    info: Dict[str, Any] = field(default_factory=dict)
    """node, samples, and what the last heartbeat said."""

    @property
    def node(self) -> str:
        """host:pid of the worker."""
        return str(self.info.get("node", ""))


class Leases:
    """The live leases. Thread-safe; Redis is asked outside the lock."""

    def __init__(
        self, store: GuardedStore, seconds: float, names: Tuple[str, ...], most: int, clock: Callable[[], float]
    ) -> None:
        """Take over what an earlier server of the job granted.

        Args:
            seconds: length of a lease.
            names: the enrolled silos; empty: any name.
            most: silos that may take part at once.
        """
        self.seconds = seconds
        self._store = store
        self._names = names
        self.most = most
        """Silos that may take part at once."""
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: Dict[str, Lease] = {}
        for silo, info in store.call(lambda s: s.leases(), {}).items():
            worker, left = info.pop("worker"), info.pop("seconds_left")
            self._leases[silo] = Lease(silo, worker, clock() + left, info)

    def acquire(self, silo: str, worker: str, info: Mapping[str, Any]) -> float:
        """Grant the silo to ``worker``; return the lease's seconds. Raises LeaseRefusedError."""
        if self._names and silo not in self._names:
            raise LeaseRefusedError(403, f"silo {silo!r} is not enrolled; expected one of {', '.join(self._names)}")
        with self._lock:
            live = self._live()
            holder = live.get(silo)
            if holder is not None and holder.worker != worker:
                raise _taken(silo, holder.info, holder.ends - self._clock())
            if holder is None and len(live) >= self.most:
                raise LeaseRefusedError(
                    403, f"silo {silo!r} is one too many: {', '.join(sorted(live))} take part, {self.most} expected"
                )
            self._leases[silo] = Lease(silo, worker, self._clock() + self.seconds, dict(info))
        granted, other, left = self._store.call(
            lambda s: s.acquire_lease(silo, worker, self.seconds, info), (True, None, 0.0)
        )
        if not granted:
            with self._lock:
                self._leases.pop(silo, None)
            raise _taken(silo, other or {}, left)
        return self.seconds

    def renew(self, silo: str, worker: str, info: Mapping[str, Any]) -> None:
        """Renew by a heartbeat; a lease that ran out is granted again if nobody else took it.

        Raises:
            LeaseRefusedError: another worker has the silo.
        """
        with self._lock:
            lease = self._live().get(silo)
            known = lease is not None and lease.worker == worker
            if known:
                lease.ends = self._clock() + self.seconds
                lease.info.update(info)
                told = dict(lease.info)
        if not known:
            self.acquire(silo, worker, info)
        elif not self._store.call(lambda s: s.renew_lease(silo, worker, self.seconds, told), True):
            self.acquire(silo, worker, told)

    def release(self, silo: str, worker: str) -> bool:
        """Give the silo back. Returns whether ``worker`` had it."""
        with self._lock:
            lease = self._leases.get(silo)
            held = lease is not None and lease.worker == worker
            if held:
                del self._leases[silo]
        return self._store.call(lambda s: s.release_lease(silo, worker), False) or held

    def expire(self) -> List[Lease]:
        """Return the leases that ran out since the last call."""
        with self._lock:
            now = self._clock()
            gone = [lease for lease in self._leases.values() if lease.ends <= now]
            for lease in gone:
                del self._leases[lease.silo]
        return gone

    def holder(self, silo: str) -> Optional[Lease]:
        """Return the silo's live lease."""
        with self._lock:
            return self._live().get(silo)

    def live(self) -> Dict[str, Lease]:
        """Return the live leases by silo."""
        with self._lock:
            return self._live()

    def expected(self) -> Dict[str, str]:
        """Return the silos that may take part, from name to node ("" where none is live)."""
        return {**dict.fromkeys(self._names, ""), **{silo: lease.node for silo, lease in self.live().items()}}

    def _live(self) -> Dict[str, Lease]:
        now = self._clock()
        return {silo: lease for silo, lease in self._leases.items() if lease.ends > now}


def _taken(silo: str, holder: Mapping[str, Any], left: float) -> LeaseRefusedError:
    return LeaseRefusedError(
        409, f"silo {silo!r} is taken by {holder.get('node') or 'another worker'} for {left:.0f} s more", holder, left
    )
