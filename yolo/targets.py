"""Which predictions answer for which boxes (YOLOv5 v6: by width and height, with the nearer neighbour cells)."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np
from mindspore import Tensor, nn, ops

CANDIDATES = 3
"""Cells a box and a level: its own, the nearer horizontal neighbour and the nearer vertical one."""


class Targets(nn.Cell):
    """Match all boxes of a batch to anchors and cells of all levels at once.

    Args:
        anchors: (levels, anchors, 2), widths and heights in input pixels.
        strides: pixels, by level.
        sizes: each level's (height, width) in cells.
        anchor_t: a box is matched to an anchor unless its width or height is this many times larger or smaller.
    """

    def __init__(
        self, anchors: np.ndarray, strides: Sequence[int], sizes: Sequence[Tuple[int, int]], anchor_t: float
    ) -> None:
        super().__init__()
        levels = len(strides)
        stride = np.asarray(strides, np.float32)
        cells = np.asarray(sizes, np.float32)
        anchors = np.asarray(anchors, np.float32) / stride.reshape(levels, 1, 1)
        self.stride = Tensor(stride.reshape(levels, 1))
        self.rows, self.columns = Tensor(cells[:, :1].copy()), Tensor(cells[:, 1:].copy())
        self.pitch = Tensor(cells[:, 1].reshape(levels, 1, 1).copy())
        self.anchor_width = Tensor(anchors[:, :, :1].copy())  # (levels, anchors, 1), in cells
        self.anchor_height = Tensor(anchors[:, :, 1:].copy())
        self.anchor_t = anchor_t

    def construct(self, boxes: Tensor, valid: Tensor) -> Tuple[Tensor, Tensor, Tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Match boxes (N, G, 4), x1, y1, x2, y2 in pixels, where ``valid`` (N, G) is 1. With P = N * G:

        Returns:
            matched: bool (levels, anchors, 3 candidates, P).
            cell: int32 (levels, 1, 3, P), row * columns + column; of no meaning where not matched.
            box: centre x and y from the cell's corner, -0.5 to 1.5, width and height, in cells; each of the shape of
                ``matched``, and ordinary numbers where not matched.
        """
        x1, y1, x2, y2 = (boxes[:, :, i].reshape(1, -1) for i in range(4))
        x, y = (x1 + x2) / 2 / self.stride, (y1 + y2) / 2 / self.stride  # (levels, P)
        width, height = (x2 - x1) / self.stride, (y2 - y1) / self.stride
        usable = ops.logical_and(valid.reshape(1, -1) == 1, ops.logical_and(width > 0, height > 0))
        usable = ops.logical_and(usable, ops.logical_and(x >= 0, x < self.columns))
        usable = ops.logical_and(usable, ops.logical_and(y >= 0, y < self.rows))
        one = ops.ones_like(x)
        x, y, width, height = (ops.where(usable, value, one) for value in (x, y, width, height))

        column, beside, has_beside = self.neighbour(x, self.columns)
        row, above, has_above = self.neighbour(y, self.rows)
        columns = ops.stack((column, beside, column), 1)  # (levels, 3, P)
        rows = ops.stack((row, row, above), 1)
        near = ops.stack((usable, ops.logical_and(usable, has_beside), ops.logical_and(usable, has_above)), 1)
        cell = (rows * self.pitch + columns).astype("int32")

        ratio_x = ops.expand_dims(width, 1) / self.anchor_width  # (levels, anchors, P)
        ratio_y = ops.expand_dims(height, 1) / self.anchor_height
        worst = ops.maximum(ops.maximum(ratio_x, 1 / ratio_x), ops.maximum(ratio_y, 1 / ratio_y))
        matched = ops.logical_and(ops.expand_dims(worst < self.anchor_t, 2), ops.expand_dims(near, 1))

        x, y = ops.expand_dims(x, 1) - columns, ops.expand_dims(y, 1) - rows
        box = (ops.expand_dims(x, 1), ops.expand_dims(y, 1), width[:, None, None], height[:, None, None])
        # Each a whole copy: on a CPU the minimum of unlike shapes takes tens of times that of like ones.
        box = tuple(ops.broadcast_to(value, matched.shape) for value in box)
        return matched, ops.expand_dims(cell, 1), box

    def neighbour(self, centre: Tensor, count: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the cell of ``centre`` (levels, P) along an axis of ``count`` cells, the neighbour nearer to it, and
        whether there is one: not beyond the border, and not of a centre in the middle of its cell.
        """
        own = ops.floor(centre)
        fraction = centre - own
        before = ops.logical_and(fraction < 0.5, centre > 1)
        after = ops.logical_and(fraction > 0.5, centre < count - 1)
        other = own + after.astype("float32") - before.astype("float32")
        return own, other, ops.logical_or(before, after)
