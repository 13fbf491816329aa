"""Which box an anchor or proposal stands for (Ren et al. 2015, section 3.1.2), a whole batch at once."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
from mindspore import Tensor, ops

CROWD_COVER = 0.5
"""Share of its area inside a crowd region from which on a candidate is no background."""
NEVER = 1e18
"""Square pixels. A target of this area has IoU 0 with everything, in place of a mask over all pairs."""

LEAST = 1e-6
"""Square pixels. Candidates count at least this, so that two boxes without area have IoU 0, not 0 / 0."""


def intersections(boxes: Tensor, candidates: Tensor) -> Tensor:
    """Return common areas (N, G, K) of boxes (N, G, 4) and candidates (N or 1, K, 4), in square pixels.

    Sides are repeated to the full shape beforehand: minimum and maximum of equal shapes are several times faster
    on CPU than broadcasting ones.
    """
    (n, g), k = boxes.shape[:2], candidates.shape[1]
    bx1, by1, bx2, by2 = [ops.tile(boxes[:, :, side : side + 1], (1, 1, k)) for side in range(4)]
    repeats = (n // candidates.shape[0], g, 1)
    cx1, cy1, cx2, cy2 = [ops.tile(ops.expand_dims(candidates[:, :, side], 1), repeats) for side in range(4)]
    w = ops.relu(ops.minimum(bx2, cx2) - ops.maximum(bx1, cx1))
    h = ops.relu(ops.minimum(by2, cy2) - ops.maximum(by1, cy1))
    return w * h


def areas(boxes: Tensor) -> Tensor:
    """Return areas (...) of boxes (..., 4), x1, y1, x2, y2."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def match(
    boxes: Tensor,
    valid: Tensor,
    candidates: Tensor,
    pos_iou_thr: float,
    neg_iou_thr: float,
    min_pos_iou: Optional[float] = None,
) -> Tuple[Tensor, Tensor, Tensor]:
    """Match candidates to ground-truth boxes.

    Args:
        boxes: float32 (N, G, 4), x1, y1, x2, y2 in pixels.
        valid: int32 (N, G): 1 an object, 0 padding, -1 a crowd region.
        candidates: float32 (N or 1, K, 4), anchors or proposals.
        pos_iou_thr, neg_iou_thr: IoU from which on a candidate is an object, below which it is background.
        min_pos_iou: IoU from which on the best candidates of a box are objects all the same; None: never.

    Returns:
        index: int32 (N, K), the box of the highest IoU; meaningful where positive.
        positive, negative: bool (N, K). Neither: the candidate is ignored.
    """
    common = intersections(boxes, candidates)  # (N, G, K)
    box_area = ops.where(valid == 1, areas(boxes), Tensor(np.float32(NEVER)))
    candidate_area = ops.expand_dims(areas(candidates), 1)  # (N, 1, K)
    n, g, k = common.shape
    union = ops.tile(ops.expand_dims(box_area, 2), (1, 1, k)) - common
    held_area = ops.maximum(candidate_area, Tensor(np.float32(LEAST)))
    union = union + ops.tile(held_area, (n // candidates.shape[0], g, 1))
    iou = ops.RealDiv()(common, union)
    index, best = ops.max(iou, axis=1)[::-1]
    positive = best >= pos_iou_thr
    if min_pos_iou is not None:
        best_of_box = ops.amax(iou, axis=2, keepdims=True)
        reached = ops.where(best_of_box >= min_pos_iou, best_of_box, Tensor(np.float32(2.0)))
        positive = ops.logical_or(positive, ops.amax((iou == reached).astype("float32"), axis=1) > 0)
    crowd = ops.expand_dims((valid == -1).astype("float32"), 2)  # (N, G, 1)
    covered = ops.amax(common * crowd, axis=1) > candidate_area[:, 0] * CROWD_COVER
    negative = ops.logical_and(best < neg_iou_thr, ops.logical_not(ops.logical_or(positive, covered)))
    return index.astype("int32"), positive, negative
