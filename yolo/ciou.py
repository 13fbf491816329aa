"""Complete IoU of boxes (Zheng et al. 2020, Distance-IoU loss, section 3.3)."""

from __future__ import annotations

import math
from typing import Tuple

from mindspore import Tensor, ops

Box = Tuple[Tensor, Tensor, Tensor, Tensor]
"""Centre x, centre y, width and height, each of any shape, in one unit of length."""

EPSILON = 1e-7


def complete_iou(a: Box, b: Box) -> Tensor:
    """Return IoU less the penalties of distant centres and of unlike shapes, elementwise; -1.5 < CIoU <= 1."""
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    left, top, right, bottom = ax - aw / 2, ay - ah / 2, ax + aw / 2, ay + ah / 2
    b_left, b_top, b_right, b_bottom = bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2
    width = ops.relu(ops.minimum(right, b_right) - ops.maximum(left, b_left))
    height = ops.relu(ops.minimum(bottom, b_bottom) - ops.maximum(top, b_top))
    shared = width * height
    iou = shared / (aw * ah + bw * bh - shared + EPSILON)

    around_width = ops.maximum(right, b_right) - ops.minimum(left, b_left)
    around_height = ops.maximum(bottom, b_bottom) - ops.minimum(top, b_top)
    diagonal = around_width * around_width + around_height * around_height + EPSILON
    distance = (ax - bx) * (ax - bx) + (ay - by) * (ay - by)
    angle = ops.atan(bw / (bh + EPSILON)) - ops.atan(aw / (ah + EPSILON))
    shape = (4 / math.pi**2) * angle * angle
    weight = ops.stop_gradient(shape / (shape - iou + (1 + EPSILON)))  # the paper's alpha, a constant as it says
    return iou - distance / diagonal - weight * shape
