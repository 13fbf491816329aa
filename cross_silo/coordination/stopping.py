"""Looks once a round whether a job's stop condition is met, by what the store says of the rounds that ended.

The scheduler does, and the server where no scheduler is alive. What was true when a round had ended decides, not when
it is looked at: a look that comes late finds the same.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from cross_silo.config.stop_condition import ACCURACIES, Progress, StopCondition
from cross_silo.coordination.store import JobStore
from cross_silo.report.summary import mean_loss


class Fired(NamedTuple):
    """A stop condition that is met."""

    condition: str
    """The comparisons that are true, with what was found."""
    round: int
    """Good rounds by then."""

    def __str__(self) -> str:
        return f"stop_condition met after round {self.round}: {self.condition}"


class StopCheck:
    """Tells when the condition of one job is met."""

    def __init__(self, condition: StopCondition) -> None:
        self._condition = condition
        self._looked_at: Tuple[Any, ...] = ()
        self._fired: Optional[Fired] = None

    def look(self, store: JobStore, job: Mapping[str, str]) -> Optional[Fired]:
        """Return what is met; only a round or an evaluation that came since the last call is looked at.

        Args:
            job: the job's fields.
        """
        if self._condition.is_empty:
            return None
        at = (job.get("instance", ""), *store.counts())
        if at != self._looked_at:
            self._fired = first_met(self._condition, store.rounds(), store.evaluations(), float(job.get("started", 0)))
            self._looked_at = at
        return self._fired


def first_met(
    condition: StopCondition,
    records: Sequence[Mapping[str, Any]],
    evaluations: Mapping[int, Mapping[str, Any]],
    started: float,
) -> Optional[Fired]:
    """Return when the condition was first met.

    Args:
        records: attempts at rounds, oldest first.
        evaluations: metrics of the global model by round.
        started: Unix time of the job's start; an earlier beginning of a round counts as that, for a server that
            was started again.
    """
    if records:
        started = min(started, records[0]["ended"] - records[0]["seconds"]["round"])
    accuracies = _accuracies(evaluations)
    losses: List[Optional[float]] = []
    changes: List[Optional[float]] = []
    accuracy: Dict[str, float] = accuracies.get(0, {})
    rounds = 0
    for record in records:
        if record["good"]:
            rounds = record["round"]
            losses.append(mean_loss(record["participants"]))
            changes += [_change(*losses[-2:])] if len(losses) > 1 else []
            accuracy = accuracies.get(rounds, accuracy)
        found = condition.met(Progress(rounds, accuracy, tuple(changes), record["ended"] - started))
        if found:
            return Fired(found, rounds)
    return None


def _accuracies(evaluations: Mapping[int, Mapping[str, Any]]) -> Dict[int, Dict[str, float]]:
    known = {}
    for round, metrics in evaluations.items():
        values = {name: metrics.get(name) for name in ACCURACIES.values()}
        known[round] = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    return known


def _change(before: Optional[float], after: Optional[float]) -> Optional[float]:
    if before is None or after is None or not math.isfinite(after - before):
        return None
    return abs(after - before)
