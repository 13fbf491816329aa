"""Calls of the job's store that may fail for a while: the aggregator goes on without Redis and says so once."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Optional, TypeVar

from redis.exceptions import RedisError

from cross_silo.coordination import JobStore

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSE = 2.0
"""Seconds after a failure in which Redis is not asked: requests must not wait for its time-outs."""


class GuardedStore:
    """A :class:`JobStore` behind a breaker."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: ``clock`` returns monotonic seconds."""
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._lost_since: Optional[float] = None
        self._ask_again = 0.0

    @property
    def available(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._lost_since is None

    def call(self, action: Callable[[JobStore], T], default: T) -> T:
        """Return ``action(store)``, or ``default`` where Redis does not answer."""
        with self._lock:
            if self._lost_since is not None and self._clock() < self._ask_again:
                return default
        try:
            result = action(self._store)
        except (RedisError, OSError) as error:
            self._failed(error)
            return default
        self._answered()
        return result

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._ask_again = self._clock() + PAUSE
            if self._lost_since is None:
                self._lost_since = self._clock()
                log.warning("Redis does not answer (%s): rounds go on, their records follow when it is back", error)

    def _answered(self) -> None:
        with self._lock:
            if self._lost_since is not None:
                log.info("Redis answers again after %.0f s", self._clock() - self._lost_since)
                self._lost_since = None
