"""CIoU against closed forms."""

import math

import numpy as np
import pytest

import cross_silo.runtime


@pytest.fixture(scope="module")
def ciou():
    """Return CIoU of two arrays of boxes (n, 4), centre x, y, width, height; and the gradient by the first."""
    cross_silo.runtime.start(seed=1)
    import mindspore
    from mindspore import Tensor, nn

    from yolo.ciou import complete_iou

    class Overlap(nn.Cell):
        def construct(self, a, b):
            overlap = complete_iou((a[0], a[1], a[2], a[3]), (b[0], b[1], b[2], b[3]))
            return overlap.sum(), overlap

    class WithGradient(nn.Cell):
        def __init__(self):
            super().__init__()
            self.gradient = mindspore.value_and_grad(Overlap(), 0, has_aux=True)

        def construct(self, a, b):
            return self.gradient(a, b)

    cell = WithGradient()

    def run(a, b):
        (_, overlap), gradient = cell(*(Tensor(np.array(x, np.float32).T.copy()) for x in (a, b)))
        return overlap.asnumpy(), gradient.asnumpy().T

    return run


def test_closed_forms(ciou):
    cases = [
        ((5, 5, 4, 2), (5, 5, 4, 2), 1),  # itself
        ((0, 0, 2, 2), (2, 0, 2, 2), -4 / 20),  # side by side: no overlap, centres 2 apart in 4 x 2
        ((0, 0, 2, 2), (1, 0, 2, 2), 1 / 3 - 1 / 13),
        ((0, 0, 4, 4), (0, 0, 2, 2), 1 / 4),  # concentric, of one shape
        ((1, 1, 2, 2), (11, 1, 2, 2), -100 / 148),
    ]
    shape = 4 / math.pi**2 * (math.atan(4) - math.atan(1 / 4)) ** 2  # a lying and a standing box, concentric
    cases.append(((0, 0, 4, 1), (0, 0, 1, 4), 1 / 7 - shape * shape / (1 - 1 / 7 + shape)))
    overlap, _ = ciou([a for a, _, _ in cases], [b for _, b, _ in cases])
    np.testing.assert_allclose(overlap, [value for _, _, value in cases], atol=1e-6)
    same, _ = ciou([b for _, b, _ in cases], [a for a, _, _ in cases])
    np.testing.assert_allclose(same, overlap, atol=1e-6)


def test_gradient_of_distant_boxes_draws_the_centres_together(ciou):
    _, gradient = ciou([(0, 0, 2, 2)], [(10, 0, 2, 2)])
    # 1 - d^2 / (d + 2)^2 + 4 falls with d: the slope along x, and none along y
    c2 = 12**2 + 2**2
    np.testing.assert_allclose(gradient[0, :2], [20 / c2 - 2 * 12 * 100 / c2**2, 0], atol=1e-6)


def test_boxes_without_area_have_finite_values_and_gradients(ciou):
    flat = [(0, 0, 0, 0), (1, 1, 0, 3), (1, 1, 3, 0), (0, 0, 1e-20, 1e-20), (5, 5, 1e4, 1e-8)]
    overlap, gradient = ciou(flat, [(0, 0, 1, 1)] * len(flat))
    assert np.isfinite(overlap).all() and np.isfinite(gradient).all()
    assert (overlap <= 1e-3).all()
