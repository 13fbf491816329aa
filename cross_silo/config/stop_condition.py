"""When a job ends before its last round: a tree of literal comparisons, joined by and/or.

What is known after each round decides; a metric that is not known yet makes its comparison false.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, Mapping, Optional, Tuple

from cross_silo.config.schema import require

ROUNDS, TARGET_ACCURACY, DELTA_LOSS, WALL_TIME = "rounds", "target_accuracy", "delta_loss", "wall_time"
SPELLINGS = {
    **{name: name for name in (ROUNDS, TARGET_ACCURACY, DELTA_LOSS, WALL_TIME)},
    "targetAccuracy": TARGET_ACCURACY,
    "deltaLoss": DELTA_LOSS,
}
"""Metrics, as they may be written."""
ACCURACIES = {"map50": "AP50", "map": "AP"}
"""What target_accuracy may be ``of``, and its name in an evaluation."""
COMPARISONS: Dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
}
JOINS = {"or": "any", "and": "all"}
MAX_COMPARISONS = 16
PATIENCE, MIN_ROUNDS = 3, 5


@dataclass(frozen=True)
class Progress:
    """What is known of a job when a round has ended."""

    rounds: int
    """Good rounds."""
    accuracy: Mapping[str, float] = field(default_factory=dict)
    """AP50 and AP (0..1) of the last evaluated round; empty: none yet."""
    changes: Tuple[Optional[float], ...] = ()
    """Absolute change of the mean loss from each good round to the next; None where one of them is not known."""
    seconds: float = 0.0
    """Since the job began."""


@dataclass(frozen=True)
class StopCondition:
    """A comparison (``metric``), or several joined (``operator`` with ``conditions``, ``any``, ``all``)."""

    metric: str = ""
    """rounds, target_accuracy, delta_loss or wall_time (seconds); empty: conditions, any or all, or no condition."""
    of: str = ""
    """What target_accuracy is: map50 or map (COCO AP), 0 to 1, of the last evaluated round."""
    operator: str = ""
    """>, >=, <, <= or =, literally; with conditions: or, and."""
    threshold: Optional[float] = None
    """What the metric is compared with."""
    patience: int = PATIENCE
    """delta_loss: good rounds running whose change of the mean loss must compare so."""
    min_rounds: int = MIN_ROUNDS
    """delta_loss: good rounds before which it is not looked at."""
    conditions: Tuple["StopCondition", ...] = ()
    """Comparisons that operator joins."""
    any: Tuple["StopCondition", ...] = ()
    """One of these is enough."""
    all: Tuple["StopCondition", ...] = ()
    """All of these are needed."""

    def __post_init__(self) -> None:
        forms = [name for name in ("metric", "conditions", "any", "all") if getattr(self, name)]
        require(len(forms) < 2, f"{' and '.join(forms)} are set together, expected one of them")
        if self.metric:
            self._check_comparison()
            return
        for name in ("of", "threshold"):
            require(getattr(self, name) in ("", None), f"{name} is set without metric")
        if self.conditions:
            require(self.operator in JOINS, f"operator is {self.operator!r}, expected or, and: it joins conditions")
        else:
            require(not self.operator, f"operator is {self.operator!r}, but it has neither metric nor conditions")
        for form in forms:
            require(not any(child.is_empty for child in self.children), f"{form} has an empty condition")
        self._check_unused(True)

    def _check_comparison(self) -> None:
        require(
            self.metric in SPELLINGS,
            f"metric is {self.metric!r}, expected {', '.join((ROUNDS, TARGET_ACCURACY, DELTA_LOSS, WALL_TIME))}",
        )
        shown = f"operator is {self.operator!r}, expected one of >, >=, <, <=, ="
        require(self.operator in COMPARISONS, shown)
        require(
            self.threshold is not None and math.isfinite(self.threshold),
            f"threshold of {self.metric} is {self.threshold}, expected a number",
        )
        of_accuracy = self.kind == TARGET_ACCURACY
        require(
            self.of in ACCURACIES if of_accuracy else not self.of,
            f"of is {self.of!r}, expected {'map50 or map' if of_accuracy else 'nothing with ' + self.metric}",
        )
        if of_accuracy:
            require(0 <= self.threshold <= 1, f"threshold of {self.of} is {self.threshold:g}, expected 0 to 1")
        require(self.patience >= 1, f"patience is {self.patience}, expected at least 1")
        require(self.min_rounds >= 0, f"min_rounds is {self.min_rounds}, expected 0 or more")
        self._check_unused(self.kind != DELTA_LOSS)

    def _check_unused(self, unused: bool) -> None:
        given = [
            name for name, usual in (("patience", PATIENCE), ("min_rounds", MIN_ROUNDS)) if vars(self)[name] != usual
        ]
        require(not unused or not given, f"{' and '.join(given)}: only delta_loss has it")

    @property
    def kind(self) -> str:
        """The metric in this project's spelling; empty where conditions are joined."""
        return SPELLINGS.get(self.metric, "")

    @property
    def children(self) -> Tuple["StopCondition", ...]:
        """What is joined."""
        return self.conditions or self.any or self.all

    @property
    def joins_all(self) -> bool:
        """Whether all children are needed."""
        return bool(self.all) or self.operator == "and"

    @property
    def is_empty(self) -> bool:
        """Whether there is no condition."""
        return not self.metric and not self.children

    def nodes(self) -> Iterator["StopCondition"]:
        """Yield this condition and all below it."""
        yield self
        for child in self.children:
            yield from child.nodes()

    @property
    def accuracy(self) -> str:
        """AP50 or AP: the metric that the job is to reach, by which its best model is told; AP50 unless only AP is."""
        wanted = [ACCURACIES[node.of] for node in self.nodes() if node.kind == TARGET_ACCURACY]
        return "AP" if wanted and "AP50" not in wanted else "AP50"

    def __str__(self) -> str:
        if self.metric:
            running = f" for {self.patience} rounds running" if self.kind == DELTA_LOSS else ""
            unit = " s" if self.kind == WALL_TIME else ""
            return f"{self.of or self.kind} {self.operator} {self.threshold:g}{unit}{running}"
        parts = [f"({child})" if len(child.children) > 1 else str(child) for child in self.children]
        return (" and " if self.joins_all else " or ").join(parts)

    def met(self, progress: Progress) -> str:
        """Return which comparisons are true, as they were found, if with them the condition is; else an empty text."""
        if self.metric:
            return self._compare(progress)
        found = [child.met(progress) for child in self.children]
        if self.joins_all:
            return " and ".join(found) if all(found) else ""
        return next((text for text in found if text), "")

    def _compare(self, progress: Progress) -> str:
        compare, threshold = COMPARISONS[self.operator], self.threshold
        if self.kind == DELTA_LOSS:
            last = progress.changes[-self.patience :]
            known = [change for change in last if change is not None]
            if progress.rounds < self.min_rounds or len(known) < self.patience:
                return ""
            shown = ", ".join(f"{change:.4g}" for change in known)
            return f"{self} ({shown})" if all(compare(change, threshold) for change in known) else ""
        value = {ROUNDS: progress.rounds, WALL_TIME: progress.seconds}.get(self.kind)
        if self.kind == TARGET_ACCURACY:
            value = progress.accuracy.get(ACCURACIES[self.of])
        return f"{self} ({value:.4g})" if value is not None and compare(value, threshold) else ""
