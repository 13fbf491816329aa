"""Bounds on how often and how many at once, by silo."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import Callable, Iterator, Set, Tuple

MAX_KEYS = 4096
"""Keys that are remembered; beyond, the one not seen for longest is forgotten."""


class RateLimit:
    """Lets ``burst`` through at once and ``rate`` a second on average, for each key (a token bucket). Thread-safe."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: "OrderedDict[str, Tuple[float, float]]" = OrderedDict()  # key -> (left, at that time)

    def allow(self, key: str) -> bool:
        """Count one of ``key``; tell whether it is within the bound."""
        now = self._clock()
        with self._lock:
            left, then = self._buckets.pop(key, (float(self._burst), now))
            left = min(left + (now - then) * self._rate, self._burst)
            allowed = left >= 1
            self._buckets[key] = (left - 1 if allowed else left, now)
            if len(self._buckets) > MAX_KEYS:
                self._buckets.popitem(last=False)
        return allowed


class OneAtATime:
    """Remembers which keys are busy. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: Set[str] = set()

    @contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Make ``key`` busy for a while; False, and nothing is held, where it is busy already. "" is never busy."""
        with self._lock:
            free = not key or key not in self._busy
            self._busy.add(key)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._busy.discard(key)
