"""What is sent of an image's objects: classes by k-ary randomised response, boxes with moved sides, or as they are.

Kairouz, Oh, Viswanath 2014, Extremal Mechanisms for Local Differential Privacy (the k-ary mechanism).
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from cross_silo.mistnet.privacy import WORDS, keep_probability

WORDS_AN_OBJECT = 6
"""Random words: whether the class stays, which other one it becomes, and one for each side of the box."""
SMALLEST_SIDE = 1.0
"""Pixels: a box whose sides have been moved is no thinner."""


def randomise_classes(labels: np.ndarray, words: np.ndarray, label_epsilon: float, classes: int) -> np.ndarray:
    """Return class indices (n,) of which each stays or becomes one of the others, all with the same probability.

    Args:
        labels: class indices (n,).
        words: uint32 (n, 2), uniform and independent.
    """
    if classes == 1:
        return labels
    kept = words[:, 0] < int(keep_probability(label_epsilon, classes) * WORDS)  # rounded down: never less noise
    # The share of a word's values that the remainder prefers is below classes / 2^32.
    other = (labels + 1 + words[:, 1] % np.uint32(classes - 1)) % classes
    return np.where(kept, labels, other)


def jitter_boxes(boxes: np.ndarray, words: np.ndarray, share: float, height: int, width: int) -> np.ndarray:
    """Return boxes (n, 4), x1, y1, x2, y2 in pixels, whose sides are moved, inside ``height`` x ``width`` pixels.

    Args:
        words: uint32 (n, 4), uniform and independent.
        share: most that a side moves, of the box's width or height; below 0.5, so that sides do not cross.
    """
    extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + (words / WORDS * 2 - 1) * share * extent
    limits = np.array([width, height], np.float32)
    low = np.clip(moved[:, :2], 0, limits - SMALLEST_SIDE)
    high = np.minimum(np.maximum(moved[:, 2:], low + SMALLEST_SIDE), limits)
    return np.concatenate([low, high], 1).astype(np.float32)


def randomise_labels(
    rows: np.ndarray,
    words: np.ndarray,
    label_epsilon: Optional[float],
    box_jitter: float,
    classes: int,
    height: int,
    width: int,
) -> np.ndarray:
    """Return the rows that are sent, float32 (n, 6): x1, y1, x2, y2 in pixels, class index, crowd.

    Args:
        rows: the true ones.
        words: uint32 (n * WORDS_AN_OBJECT,), uniform and independent.
        label_epsilon: None leaves the classes.
        box_jitter: 0 leaves the boxes.
        height, width: pixels of the network's input.
    """
    rows = rows.copy()
    words = words.reshape(len(rows), WORDS_AN_OBJECT)
    if label_epsilon is not None:
        rows[:, 4] = randomise_classes(rows[:, 4].astype(np.int64), words[:, :2], label_epsilon, classes)
    if box_jitter:
        rows[:, :4] = jitter_boxes(rows[:, :4], words[:, 2:], box_jitter, height, width)
    return rows
