"""ROIAlign (He et al. 2017, Mask R-CNN, section 3), every region pooled from its own level only (Lin et al. 2017, 4.2).

Each pooled value is a weighted sum of positions of the pyramid, so that pooling all regions is one product of a
sparse matrix with the table of all positions, and its gradient the product with the transposed matrix.
"""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np
from mindspore import Tensor, nn, ops


class SparseProduct(nn.Cell):
    """Product of a sparse matrix, given as coordinates and values, with a dense one; differentiable in the latter."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.shape = (rows, columns)
        self.multiply = ops.SparseTensorDenseMatmul()
        self.multiply_transposed = ops.SparseTensorDenseMatmul(adjoint_st=True)

    def construct(self, indices: Tensor, values: Tensor, dense: Tensor) -> Tensor:
        """From int32 (Z, 2) row and column, float32 (Z,), and dense (columns, C) to (rows, C)."""
        return self.multiply(indices, values, self.shape, dense)

    def bprop(
        self, indices: Tensor, values: Tensor, dense: Tensor, out: Tensor, dout: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Return the gradients; the coordinates and values come from boxes and have none."""
        gradient = self.multiply_transposed(indices, values, self.shape, dout)
        return ops.zeros_like(indices), ops.zeros_like(values), gradient


class ROIAlign(nn.Cell):
    """Pool regions to ``bins`` x ``bins`` values, each the mean of ``samples`` x ``samples`` bilinear samples.

    Positions are sampled as in Detectron2's aligned version: the centre of position 0 lies at half a stride.

    Args:
        sizes: each level's (height, width), finest first.
        strides: pixels.
        images: N.
        regions: R, of each image.
        finest_scale: pixels; a region of less than twice this scale is pooled from the stride-4 level, and so on.
    """

    def __init__(
        self,
        sizes: Sequence[Tuple[int, int]],
        strides: Sequence[int],
        images: int,
        regions: int,
        bins: int,
        samples: int,
        finest_scale: float,
    ) -> None:
        super().__init__()
        self.bins, self.samples = bins, samples
        self.levels = len(sizes)
        positions = [height * width for height, width in sizes]
        # The scale from which on a region belongs to the next coarser level.
        self.bounds = [finest_scale * stride / 4 * 2 for stride in strides[:-1]]
        level_table = np.concatenate([np.asarray(sizes), np.cumsum([0, *positions[:-1]])[:, None]], 1)
        self.level_table = Tensor(level_table.astype(np.float32))  # (levels, 3): height, width, first position
        self.scales = Tensor(1 / np.asarray(strides, np.float32))
        image_start = np.repeat(np.arange(images) * sum(positions), regions).reshape(-1, 1, 1, 1, 1)
        self.image_start = Tensor(image_start.astype(np.int32))
        self.grid = Tensor(((np.arange(bins * samples, dtype=np.float32) + 0.5) / (bins * samples))[None])
        rows = images * regions * bins * bins
        self.rows = Tensor(np.repeat(np.arange(rows, dtype=np.int32), (2 * samples) ** 2))
        self.product = SparseProduct(rows, images * sum(positions))

    def construct(self, levels: Tuple[Tensor, ...], boxes: Tensor) -> Tensor:
        """From levels (N, C, H, W) and boxes (N, R, 4), x1, y1, x2, y2 in pixels, to (N * R, bins, bins, C)."""
        boxes = ops.stop_gradient(boxes).reshape(-1, 4)
        level = self.level_of(boxes)
        size = ops.gather(self.level_table, level, 0)  # (N * R, 3)
        boxes = boxes * ops.expand_dims(ops.gather(self.scales, level, 0), 1)
        y_index, y_weight = self.corners(boxes[:, 1:2], boxes[:, 3:4], size[:, 0:1])
        x_index, x_weight = self.corners(boxes[:, 0:1], boxes[:, 2:3], size[:, 1:2])
        m, k, s = boxes.shape[0], self.bins, 2 * self.samples
        row_start = (y_index * size[:, 1:2] + size[:, 2:3]).astype("int32").reshape(m, k, 1, s, 1)
        column = x_index.astype("int32").reshape(m, 1, k, 1, s)
        position = row_start + column + self.image_start  # (N * R, bins, bins, 2 samples, 2 samples)
        weight = y_weight.reshape(m, k, 1, s, 1) * x_weight.reshape(m, 1, k, 1, s)

        flat = [x.reshape(x.shape[0], x.shape[1], -1) for x in levels]
        table = ops.concat(flat, 2).transpose(0, 2, 1).reshape(-1, levels[0].shape[1])  # (N * positions, C)
        indices = ops.stack((self.rows, position.reshape(-1)), 1)
        return self.product(indices, weight.reshape(-1), table).reshape(m, k, k, -1)

    def level_of(self, boxes: Tensor) -> Tensor:
        """Return int32 (R,), the index of the level of boxes (R, 4) in pixels."""
        scale = ops.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        level = ops.zeros_like(scale)
        for bound in self.bounds:
            level = level + (scale >= bound).astype("float32")
        return level.astype("int32")

    def corners(self, low: Tensor, high: Tensor, size: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the two positions beside each sample along one axis, and their shares of a bin's mean.

        low, high: the regions' sides in positions, (R, 1); size: positions of the axis, (R, 1). Both results are
        float32 (R, bins * samples * 2).
        """
        centre = low - 0.5 + self.grid * (high - low)  # (R, bins * samples)
        centre = ops.minimum(ops.relu(centre), size - 1)
        first = ops.floor(centre)
        fraction = centre - first
        second = ops.minimum(first + 1, size - 1)
        index = ops.stack((first, second), -1)
        weight = ops.stack((1 - fraction, fraction), -1) / self.samples
        return index.reshape(low.shape[0], -1), weight.reshape(low.shape[0], -1)
