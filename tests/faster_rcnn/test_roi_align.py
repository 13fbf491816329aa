import mindspore
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from faster_rcnn.roi_align import ROIAlign

SIZES = [(16, 24), (8, 12), (4, 6)]
STRIDES = (4, 8, 16)
SCALE = 8.0
BINS, SAMPLES = 3, 2


def bilinear(level: np.ndarray, y: float, x: float) -> np.ndarray:
    height, width = level.shape[1:]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = level[:, y0, x0] * (1 - (x - x0)) + level[:, y0, x1] * (x - x0)
    bottom = level[:, y1, x0] * (1 - (x - x0)) + level[:, y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def reference(levels, boxes) -> np.ndarray:
    """ROIAlign by loops; levels: arrays (N, C, H, W), boxes: (N, R, 4)."""
    out = []
    for image, image_boxes in enumerate(boxes):
        for x1, y1, x2, y2 in image_boxes:
            scale = np.sqrt((x2 - x1) * (y2 - y1))
            k = int(np.clip(np.floor(np.log2(max(scale, 1e-6) / SCALE)), 0, len(levels) - 1))
            level, stride = levels[k][image], STRIDES[k]
            pooled = np.zeros((BINS, BINS, level.shape[0]))
            for i in range(BINS):
                for j in range(BINS):
                    for a in range(SAMPLES):
                        for b in range(SAMPLES):
                            y = y1 / stride - 0.5 + (i + (a + 0.5) / SAMPLES) * (y2 - y1) / stride / BINS
                            x = x1 / stride - 0.5 + (j + (b + 0.5) / SAMPLES) * (x2 - x1) / stride / BINS
                            pooled[i, j] += bilinear(level, y, x) / SAMPLES**2
            out.append(pooled)
    return np.stack(out)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    levels = [rng.standard_normal((2, 5, h, w)).astype(np.float32) for h, w in SIZES]
    low = rng.uniform(0, 40, (2, 9, 2))
    side = (
        rng.uniform(1, 1, (2, 9, 2)) * rng.choice([3.0, 10.0, 20.0, 40.0], (2, 9, 2)) * rng.uniform(0.8, 1.2, (2, 9, 2))
    )
    boxes = np.concatenate([low, np.minimum(low + side, [96, 64])], -1)
    boxes[0, 0] = [0, 0, 96, 64]  # the whole image
    boxes[1, 0] = [96, 64, 96, 64]  # nothing, at the border
    align = ROIAlign(SIZES, STRIDES, 2, 9, BINS, SAMPLES, SCALE)
    return levels, boxes.astype(np.float32), align


def test_equals_loops_over_samples(case):
    levels, boxes, align = case
    out = align(tuple(Tensor(x) for x in levels), Tensor(boxes)).asnumpy()
    np.testing.assert_allclose(out, reference(levels, boxes), atol=1e-4)


def test_gradient_is_the_transposed_map(case):
    """ROIAlign is linear in the levels, so that <out(x), v> = <x, gradient of v>, for every x."""
    levels, boxes, align = case

    class Weighted(nn.Cell):
        def __init__(self):
            super().__init__()
            self.align = align

        def construct(self, a, b, c, boxes, v):
            return (self.align((a, b, c), boxes) * v).sum()

    v = np.random.default_rng(1).standard_normal((18, BINS, BINS, 5)).astype(np.float32)
    gradients = ops.grad(Weighted(), (0, 1, 2))(*(Tensor(x) for x in levels), Tensor(boxes), Tensor(v))
    other = [np.random.default_rng(2).standard_normal(x.shape).astype(np.float32) for x in levels]
    expected = (reference(other, boxes) * v).sum()
    found = sum((x * g.asnumpy()).sum() for x, g in zip(other, gradients))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert isinstance(gradients[0], mindspore.Tensor)


def test_level_of_a_region_follows_its_scale(case):
    _, _, align = case
    sides = np.array([1, 15.9, 16, 31.9, 32, 60], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    assert align.level_of(Tensor(boxes)).asnumpy().tolist() == [0, 0, 1, 1, 2, 2]
