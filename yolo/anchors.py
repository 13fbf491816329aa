"""Anchors: those of the settings, how well they fit boxes, and others fitted to boxes (k-means, then mutations)."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from cross_silo.errors import UserError
from yolo.settings import STRIDES, Settings

MOST_BOXES = 50_000
"""Boxes that anchors are fitted to; of more, that many are drawn."""
LLOYD_STEPS = 30
SMALLEST_ANCHOR = 2.0
"""Pixels."""
MUTATION_RATE, MUTATION_SPREAD = 0.9, 0.1
"""Share of sides that a mutation changes, and the standard deviation of their factors."""
MUTATION_LIMITS = (0.3, 3.0)


def anchor_table(settings: Settings) -> np.ndarray:
    """Return the anchors, float32 (levels, A, 2): width and height in input pixels."""
    return np.asarray(settings.anchors, np.float32).reshape(len(settings.anchors), -1, 2)


def in_strides(anchors: np.ndarray) -> np.ndarray:
    """Return anchors (levels, A, 2), float32, in strides from those in pixels."""
    return anchors / np.asarray(STRIDES, np.float32).reshape(-1, 1, 1)


def closeness(wh: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return (boxes, anchors): the worse of the two sides' ratios, the smaller side over the larger, 0 to 1.

    wh: (boxes, 2), width and height; anchors: (anchors, 2), in the same unit.
    """
    ratio = wh[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)


def best_possible_recall(wh: np.ndarray, anchors: np.ndarray, anchor_t: float) -> Tuple[float, float]:
    """Return the share of boxes that some anchor is trained on, and the mean number of such anchors a box.

    wh: (boxes, 2), width and height > 0; anchors: (anchors, 2), in the same unit.
    """
    close = closeness(wh, anchors) > 1 / anchor_t
    return float(close.any(1).mean()), float(close.sum(1).mean())


def fitness(wh: np.ndarray, anchors: np.ndarray, anchor_t: float) -> float:
    """Return the mean closeness of each box's best anchor; a box that no anchor is trained on counts 0."""
    best = closeness(wh, anchors).max(1)
    return float((best * (best > 1 / anchor_t)).mean())


def fit_anchors(
    wh: np.ndarray, count: int = 9, anchor_t: float = 4.0, generations: int = 1000, seed: int = 1
) -> np.ndarray:
    """Return ``count`` anchors for boxes ``wh``, (count, 2), width and height in the boxes' pixels, sorted by area.

    wh: (boxes, 2), both > 0. The anchors begin as k-means centres; each generation changes them at random and keeps
    the change if the fitness grew.

    Raises:
        UserError: fewer boxes than anchors.
    """
    if len(wh) < count:
        raise UserError(f"found {len(wh)} boxes; expected at least {count}, one an anchor")
    rng = np.random.default_rng(seed)
    wh = np.asarray(wh, np.float32)
    if len(wh) > MOST_BOXES:
        wh = wh[rng.choice(len(wh), MOST_BOXES, replace=False)]
    # Logarithms, since the fitness is of ratios: the sizes themselves would give small boxes too few anchors.
    anchors = np.maximum(np.exp(_k_means(np.log(wh), count, rng)), SMALLEST_ANCHOR)
    best = fitness(wh, anchors, anchor_t)
    for _ in range(generations):
        changed = rng.random(anchors.shape) < MUTATION_RATE
        spread = rng.random() * MUTATION_SPREAD  # large steps and small ones
        factors = np.where(changed, 1 + spread * rng.standard_normal(anchors.shape), 1)
        mutant = np.maximum(anchors * np.clip(factors, *MUTATION_LIMITS), SMALLEST_ANCHOR).astype(np.float32)
        value = fitness(wh, mutant, anchor_t)
        if value > best:
            anchors, best = mutant, value
    return anchors[np.argsort(anchors.prod(1))]


def _k_means(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return centres (count, 2) of ``points`` (n, 2): Lloyd's algorithm from k-means++ (Arthur, Vassilvitskii 2007)."""
    centres = points[rng.integers(len(points), size=1)]
    while len(centres) < count:
        distance = _square_distances(points, centres).min(1).astype(np.float64)
        total = distance.sum()  # 0 where there are fewer different points than centres
        place = rng.choice(len(points), p=distance / total if total else None)
        centres = np.concatenate([centres, points[place : place + 1]])
    for _ in range(LLOYD_STEPS):
        nearest = _square_distances(points, centres).argmin(1)
        members = np.bincount(nearest, minlength=count)
        for axis in range(2):
            sums = np.bincount(nearest, points[:, axis], minlength=count)
            np.divide(sums, members, out=centres[:, axis], where=members > 0, casting="same_kind")
    return centres


def _square_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return (points, centres)."""
    return ((points[:, None] - centres[None]) ** 2).sum(2)
