"""Who takes part in a round and when it may close: k of n, the aggregation trigger, the draw of silos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from cross_silo.config.schema import require

READY_CLIENTS = "num_of_ready_clients"
OPERATORS = (">=", ">", "==")


@dataclass(frozen=True)
class AggregationTrigger:
    """The condition under which a round is averaged at once, without the silos that have not pushed by then."""

    metric: str = READY_CLIENTS
    """Only num_of_ready_clients: silos whose update of the round has been taken."""
    operator: str = ""
    """>=, > or ==, literally; empty: no trigger, a round waits for every silo that it admitted."""
    threshold: int = 0
    """What the metric is compared with."""

    def __post_init__(self) -> None:
        require(self.metric == READY_CLIENTS, f"metric is {self.metric!r}, expected {READY_CLIENTS}")
        if not self.operator:
            require(not self.threshold, f"threshold is {self.threshold}, but operator is not set")
            return
        expected = ", ".join(OPERATORS)
        require(
            self.operator in OPERATORS,
            f"operator is {self.operator!r}, expected one of {expected} (the number of ready silos only grows)",
        )
        require(self.updates >= 1, f"threshold is {self.threshold} with {self.operator!r}: a round without an update")

    @property
    def updates(self) -> int:
        """The least number of updates that meets the condition; 0 without one."""
        if not self.operator:
            return 0
        return self.threshold + (self.operator == ">")


@dataclass(frozen=True)
class Participation:
    """How many silos each step of a round needs."""

    ready: int
    """Silos that a round waits for at its start."""
    most: int
    """Silos that it admits: those ready, or so many drawn from them."""
    least: int
    """Updates without which it fails (k)."""
    enough: int
    """Updates with which it closes at once; 0: those of all silos admitted."""
    draws: bool
    """Whether the silos are drawn."""
    seed: int
    """Of the draw."""


def required_updates(ratio: float, silos: int) -> int:
    """Return ceil(ratio * silos), with ``ratio`` as it was written: 0.7 of 10 are 7."""
    return math.ceil(Fraction(str(ratio)) * silos)
