"""Trying again with growing pauses, until a deadline."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Callable, Optional, Tuple, Type, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with jitter. Seconds."""

    first: float = 0.1
    """Pause after the first failure."""
    factor: float = 2.0
    """From one pause to the next."""
    longest: float = 5.0
    """Bound of a pause."""
    deadline: float = 120.0
    """From the first try to the last."""


class Retrier:
    """Applies a :class:`RetryPolicy`."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Args: ``jitter`` returns 0..1; a pause is cut by up to a half of it, so that workers spread out."""
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    def run(self, call: Callable[[], T], on: Tuple[Type[BaseException], ...], deadline: Optional[float] = None) -> T:
        """Return ``call()``'s result; after an exception of ``on``, try again until the deadline, then raise it."""
        end = self._clock() + (self._policy.deadline if deadline is None else deadline)
        pause = self._policy.first
        while True:
            try:
                return call()
            except on:
                left = end - self._clock()
                if left <= 0:
                    raise
                self._sleep(min(pause * (1 - self._jitter() / 2), left))
                pause = min(pause * self._policy.factor, self._policy.longest)
