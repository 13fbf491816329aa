"""A count of refused updates by silo and reason, and a line in the log for each."""

from __future__ import annotations

import logging
import threading
from typing import Dict, Mapping

from cross_silo.protocol.limits import RateLimit

log = logging.getLogger(__name__)

MESSAGE, TENSORS, NON_FINITE, FINGERPRINT, NORM = "message", "tensors", "non-finite", "fingerprint", "norm"
"""Reasons: not a well-formed message; wrong names or sizes; NaN or infinite; of another model; too far away."""
MAX_SILOS = 1000
UNKNOWN = "unknown"
"""In place of a silo that is not told, or one beyond :data:`MAX_SILOS`."""
LINES = (1.0, 20)
"""Lines in the log: a second, and at once."""

Counts = Dict[str, Dict[str, int]]
"""From silo to reason to number."""


class Refusals:
    """Thread-safe."""

    def __init__(self) -> None:
        self._counts: Counts = {}
        self._lock = threading.Lock()
        self._lines = RateLimit(*LINES)

    def add(self, silo: str, reason: str, detail: str) -> None:
        """Count one and tell the log, unless it was told too much of late."""
        with self._lock:
            name = silo if silo in self._counts or len(self._counts) < MAX_SILOS else ""
            reasons = self._counts.setdefault(name or UNKNOWN, {})
            reasons[reason] = reasons.get(reason, 0) + 1
        if self._lines.allow(""):
            log.warning("an update of silo %s is refused (%s): %.300s", silo or UNKNOWN, reason, detail)

    def counts(self) -> Counts:
        """Return how many there were."""
        with self._lock:
            return {silo: dict(reasons) for silo, reasons in sorted(self._counts.items())}

    def begin_with(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Go on from the counts of an earlier server of the job, or from none."""
        with self._lock:
            self._counts = {silo: dict(reasons) for silo, reasons in counts.items()}
