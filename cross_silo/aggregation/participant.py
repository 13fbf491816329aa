"""A silo in a round, what it is told, and how an attempt at a round ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from cross_silo.protocol.schema import OUT_OF_TIME, SUCCEED

Key = Tuple[int, int]
"""(iteration, attempt)."""


KEPT = 256


class Kept(dict):
    """The newest entries; older ones go."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > KEPT:
            del self[next(iter(self))]


@dataclass
class Participant:
    """A silo in the round in progress."""

    silo: str
    worker: str
    """Worker id; empty for a client that sends none."""
    node: str
    samples: int
    admitted: bool = False
    """Its update is being added to the sum."""
    pushed: bool = False
    """Its update is in the sum."""
    loss: float = 0.0
    stats: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.silo} ({self.node})" if self.node else self.silo


@dataclass(frozen=True)
class Answer:
    """What a client is told: an engine's return code and text."""

    code: int
    reason: str
    waits: bool = False
    """Refused for now only: a later round, or the rest of this one's start, may have a place."""
    key: Optional[Key] = None
    """The round that was in progress when startFLJob or updateModel was answered."""
    samples: int = 0
    """Those that the silo joined with, where its update would be taken."""

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return self.code == SUCCEED


def wait_for(reason: str) -> Answer:
    """Return the answer to a silo that is to ask again."""
    return Answer(OUT_OF_TIME, reason, waits=True)


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a round ended. Times are of the machine's clock, seconds."""

    key: Key
    good: bool
    reason: str
    participants: Tuple[Participant, ...]
    """Whose updates the model is the mean of; of a failed attempt: who had joined."""
    began: float
    last_push: float
    ended: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Silos that the round went on without, and why."""
