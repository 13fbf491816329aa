"""Whether a stop condition can ever be met, and the round by which it surely is."""

from __future__ import annotations

import itertools
import math
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from cross_silo.config.schema import require
from cross_silo.config.stop_condition import (
    ACCURACIES,
    COMPARISONS,
    DELTA_LOSS,
    MAX_COMPARISONS,
    ROUNDS,
    TARGET_ACCURACY,
    StopCondition,
)

Comparisons = Tuple[StopCondition, ...]
"""Comparisons that are to hold at once."""


def check_reachable(condition: StopCondition, last_round: int, evaluates: bool) -> None:
    """Refuse a condition with a part that can never be met. Raises ValueError naming it.

    Args:
        last_round: good rounds after which the job ends in any case.
        evaluates: whether the job measures its model.
    """
    comparisons = [node for node in condition.nodes() if node.metric]
    require(
        len(comparisons) <= MAX_COMPARISONS,
        f"stop_condition has {len(comparisons)} comparisons, expected at most {MAX_COMPARISONS}",
    )
    for node in condition.nodes():
        if node.kind == TARGET_ACCURACY and not evaluates:
            raise ValueError(f"stop_condition: {node} is never known: evaluation.annotations is not set")
    for node in reversed(list(condition.nodes())):  # a comparison before what joins it
        if not node.is_empty and not any(_can_hold(part, last_round) for part in alternatives(node)):
            raise ValueError(
                f"stop_condition: {node} is never met within the {last_round} rounds of the job (fl_iteration_num)"
            )


def surely_met_in(condition: StopCondition, last_round: int) -> Optional[int]:
    """Return the first round, up to ``last_round``, in which rounds alone meet the condition; None: in none."""
    found = []
    for part in [] if condition.is_empty else alternatives(condition):
        if all(node.kind == ROUNDS for node in part):
            found += [n for n in _whole_numbers(part, last_round) if _all_hold(part, n)]
    return min(found, default=None)


def alternatives(condition: StopCondition) -> List[Comparisons]:
    """Return sets of comparisons, each of which meets the condition (its disjunctive normal form)."""
    if condition.metric:
        return [(condition,)]
    parts = [alternatives(child) for child in condition.children]
    if not condition.joins_all:
        return [found for child in parts for found in child]
    return [tuple(itertools.chain(*chosen)) for chosen in itertools.product(*parts)]


def _can_hold(part: Comparisons, last_round: int) -> bool:
    """Tell whether there are values for which all of ``part`` is true at once."""
    by_variable: Dict[str, List[StopCondition]] = {}
    for node in part:
        by_variable.setdefault(node.of or node.kind, []).append(node)
    least = max((_rounds_needed(node) for node in part if node.kind == DELTA_LOSS), default=1)
    rounds = by_variable.pop(ROUNDS, [])
    if not any(n >= least and _all_hold(rounds, n) for n in _whole_numbers(rounds, last_round)):
        return False
    return all(
        any(_all_hold(nodes, value) for value in _numbers(nodes, 1.0 if name in ACCURACIES else math.inf))
        for name, nodes in by_variable.items()
    )


def _rounds_needed(node: StopCondition) -> int:
    return max(node.min_rounds, node.patience + 1)


def _all_hold(part: Sequence[StopCondition], value: float) -> bool:
    return all(COMPARISONS[node.operator](value, node.threshold) for node in part)


def _whole_numbers(part: Sequence[StopCondition], last: int) -> Iterator[int]:
    """Yield the whole numbers 1..last at which the truth of ``part`` may change, and those beside them."""
    near = {math.floor(node.threshold) + step for node in part for step in (-1, 0, 1, 2)}
    return iter(sorted({1, last, *(n for n in near if 1 <= n <= last)}))


def _numbers(part: Sequence[StopCondition], most: float) -> List[float]:
    """Return the thresholds between 0 and ``most``, and a number on each side of each."""
    marks = sorted({0.0, *(node.threshold for node in part if 0 <= node.threshold <= most)})
    marks.append(most if math.isfinite(most) else marks[-1] + 1.0)
    return marks + [(low + high) / 2 for low, high in zip(marks, marks[1:])]
