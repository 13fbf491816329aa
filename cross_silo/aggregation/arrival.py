"""One silo's shard of an update at a server beside the first one, and how far it is on its way into the sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from cross_silo.aggregation.update import CheckedUpdate

EXPECTED, RECEIVED, REFUSED, ADDING, ADDED, DROPPED = "expected", "received", "refused", "adding", "added", "dropped"
"""States of an update's shard; in the last two and in "refused" nothing more comes of it."""


@dataclass
class Arrival:
    """One silo's shard of an update."""

    worker: str
    samples: int
    state: str = EXPECTED
    update: Optional[CheckedUpdate] = None
    squares: float = 0.0
    """Sum of squares of its part of the update's norm."""
    reason: str = ""
    """Why it is refused or dropped; "kind" says which of the reasons in refusals it is."""
    kind: str = ""

    @property
    def is_over(self) -> bool:
        """Whether its buffer may be used again."""
        return self.state in (ADDED, DROPPED, REFUSED)
