"""What a job's rounds leave behind for its record, until the thread that keeps the record takes it."""

from __future__ import annotations

import threading
from typing import Dict, Iterable, List, Mapping, Tuple

from cross_silo.aggregation.journal import Record, round_record
from cross_silo.aggregation.participant import Outcome

Measurement = Tuple[int, str, Dict[str, float]]
"""(round, silo, metrics) of a global model on a silo's own validation set."""


class Records:
    """Not thread-safe, but for :attr:`recorded`: its owner holds a lock."""

    def __init__(self) -> None:
        self.averaged_at = 0.0
        """When the last round's last update was in the sum."""
        self.bytes_up = self.bytes_down = 0
        """Of updates taken and models sent since the last record."""
        self.recorded = threading.Event()
        """Set when there is something to take."""
        self._records: List[Record] = []
        self._measured: List[Measurement] = []

    def add(self, outcomes: Iterable[Outcome], checkpoint: str, checkpoint_seconds: float) -> None:
        """Turn ended attempts into records."""
        for outcome in outcomes:
            record = round_record(
                outcome, self.averaged_at, checkpoint, checkpoint_seconds, self.bytes_up, self.bytes_down
            )
            self.bytes_up = self.bytes_down = 0
            self._records.append(record)
            self.recorded.set()

    def add_measured(self, round: int, silo: str, metrics: Mapping[str, float]) -> None:
        """Keep what a silo measured."""
        self._measured.append((round, silo, dict(metrics)))
        self.recorded.set()

    def take(self) -> List[Record]:
        """Return the records since the last call."""
        taken, self._records = self._records, []
        self.recorded.clear()
        return taken

    def take_measured(self) -> List[Measurement]:
        """Return the silos' measurements since the last call."""
        taken, self._measured = self._measured, []
        return taken
