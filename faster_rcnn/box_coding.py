"""Boxes as deltas from a reference box (Girshick et al. 2014, R-CNN, appendix C)."""

from __future__ import annotations

import math
from typing import Sequence, Tuple

import numpy as np
from mindspore import Tensor, ops

MAX_LOG_RATIO = math.log(1000 / 16)
"""Clamp of dw and dh: no box grows beyond the side of a 1000-pixel image from the side of a 16-pixel anchor,
and exp() of an untrained network's output stays finite."""
MIN_SIDE = 1e-3
"""Pixels. Sides are held to this where they divide or are taken the logarithm of: padding rows have none."""


def centres_and_sides(boxes: Tensor) -> Tuple[Tensor, Tensor]:
    """Split boxes (..., 4), x1, y1, x2, y2, into centres and sides, each (..., 2) as x, y in the same unit."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) * 0.5, high - low


def encode(boxes: Tensor, references: Tensor, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Return deltas (..., 4), dx, dy, dw, dh over ``stds``, that turn ``references`` into ``boxes``.

    Both are (..., 4), x1, y1, x2, y2 in pixels.
    """
    centre, side = centres_and_sides(boxes)
    reference_centre, reference_side = centres_and_sides(references)
    side = ops.maximum(side, Tensor(np.float32(MIN_SIDE)))
    reference_side = ops.maximum(reference_side, Tensor(np.float32(MIN_SIDE)))
    deltas = ops.concat(((centre - reference_centre) / reference_side, ops.log(side / reference_side)), -1)
    return deltas / Tensor(np.asarray(stds, np.float32))


def decode(
    deltas: Tensor, references: Tensor, height: int, width: int, stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Invert :func:`encode` and clip to the image of ``height`` x ``width`` pixels; shapes as there."""
    deltas = deltas * Tensor(np.asarray(stds, np.float32))
    centre, side = centres_and_sides(references)
    centre = centre + deltas[..., :2] * side
    half = side * ops.exp(ops.minimum(deltas[..., 2:], Tensor(np.float32(MAX_LOG_RATIO)))) * 0.5
    boxes = ops.concat((centre - half, centre + half), -1)
    limit = Tensor(np.asarray([width, height, width, height], np.float32))
    return ops.minimum(ops.relu(boxes), limit)
