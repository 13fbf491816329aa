"""ROIAlign's sparse product by gathers: slower, but of operators that ONNX has."""

from __future__ import annotations

from mindspore import Tensor, nn, ops

from faster_rcnn.roi_align import ROIAlign


class GatherProduct(nn.Cell):
    """Product of a sparse matrix, of ``entries`` neighbouring entries a row, with a dense one."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries = entries

    def construct(self, indices: Tensor, values: Tensor, dense: Tensor) -> Tensor:
        """From int32 (rows * entries, 2) row and column, float32 (rows * entries,) and dense (columns, C) to (rows, C).

        Rows come in order. One gather an entry: all at once would need ``entries`` times the memory.
        """
        columns = indices[:, 1].reshape(-1, self.entries)
        values = values.reshape(-1, self.entries)
        out = ops.gather(dense, columns[:, 0], 0) * values[:, 0:1]
        for i in range(1, self.entries):
            out = out + ops.gather(dense, columns[:, i], 0) * values[:, i : i + 1]
        return out


def without_sparse_product(roi_align: ROIAlign) -> None:
    """Make ``roi_align`` multiply by gathers."""
    roi_align.product = GatherProduct((2 * roi_align.samples) ** 2)
