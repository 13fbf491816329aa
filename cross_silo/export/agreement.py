"""Whether two programs detect the same objects in the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

import numpy as np

if TYPE_CHECKING:
    from cross_silo.detector import Detections

BOX_TOLERANCE = 0.5
"""Pixels of the network's input by which a side may differ."""
SCORE_TOLERANCE = 0.001
LEAST_SHARE = 0.95
"""Of the detections. Other arithmetic may turn over a suppression where two boxes overlap by just the threshold."""


@dataclass(frozen=True)
class Agreement:
    """What the comparison found."""

    expected: int
    """Detections of the network."""
    found: int
    """Detections of the exported file."""
    matched: int
    """Pairs of one class, with score and box within the tolerances."""
    box_error: float
    """Largest difference of a matched side, in pixels of the network's input."""
    score_error: float
    """Largest difference of a matched score."""

    @property
    def holds(self) -> bool:
        """Whether (nearly) all detections of both are matched."""
        return self.matched >= LEAST_SHARE * max(self.expected, self.found)


def compare(expected: "Sequence[Detections]", found: "Sequence[Detections]") -> Agreement:
    """Match the detections of each image one to one: the best of ``expected`` first, each with its nearest box."""
    box_errors, score_errors = [0.0], [0.0]
    for (boxes, scores, labels), (other_boxes, other_scores, other_labels) in zip(expected, found):
        free = np.ones(len(other_boxes), bool)
        for box, score, label in zip(boxes, scores, labels):
            distance = np.abs(other_boxes - box).max(1, initial=0)
            same = free & (other_labels == label) & (np.abs(other_scores - score) <= SCORE_TOLERANCE)
            distance[~same] = np.inf
            if distance.min(initial=np.inf) <= BOX_TOLERANCE:
                nearest = int(distance.argmin())
                free[nearest] = False
                box_errors.append(float(distance[nearest]))
                score_errors.append(float(abs(other_scores[nearest] - score)))
    return Agreement(
        expected=sum(len(boxes) for boxes, _, _ in expected),
        found=sum(len(boxes) for boxes, _, _ in found),
        matched=len(box_errors) - 1,
        box_error=max(box_errors),
        score_error=max(score_errors),
    )
