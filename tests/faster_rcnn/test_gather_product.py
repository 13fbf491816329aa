import numpy as np

from faster_rcnn.gather_product import GatherProduct, without_sparse_product
from faster_rcnn.roi_align import ROIAlign


def test_is_the_product_with_the_sparse_matrix(graph_mode):
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    columns = rng.integers(0, 7, (5, 4))
    values, dense = rng.random((5, 4), np.float32), rng.random((7, 3), np.float32)
    matrix = np.zeros((5, 7))
    for row in range(5):
        np.add.at(matrix[row], columns[row], values[row])
    indices = np.stack([np.repeat(np.arange(5), 4), columns.ravel()], 1).astype(np.int32)
    found = GatherProduct(4)(Tensor(indices), Tensor(values.ravel()), Tensor(dense)).asnumpy()
    np.testing.assert_allclose(found, matrix @ dense, rtol=1e-5)


def test_roi_align_pools_the_same(graph_mode):
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    levels = tuple(Tensor(rng.random((2, 3, size, size), np.float32)) for size in (8, 4))
    corners = rng.uniform(0, 32, (2, 6, 2))
    boxes = Tensor(np.concatenate([corners, corners + rng.uniform(1, 30, (2, 6, 2))], -1).astype(np.float32))
    pooled = []
    for gathers in (False, True):
        roi_align = ROIAlign([(8, 8), (4, 4)], (8, 16), 2, 6, bins=3, samples=2, finest_scale=8)
        if gathers:
            without_sparse_product(roi_align)
        pooled.append(roi_align(levels, boxes).asnumpy())
    np.testing.assert_allclose(pooled[1], pooled[0], rtol=1e-5, atol=1e-6)
