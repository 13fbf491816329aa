"""Spatial pyramid pooling in training against the pooling of inference, and its gradient against plain loops."""

import numpy as np


def test_training_takes_the_same_maxima_and_their_gradient_goes_where_they_stand():
    from mindspore import Tensor, nn, ops

    from yolo.pyramid import PyramidMaxima

    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    gradient = rng.standard_normal((2, 9, 5, 7)).astype(np.float32)
    maxima = PyramidMaxima()

    class Weighted(nn.Cell):
        def __init__(self):
            super().__init__()
            self.maxima = maxima

        def construct(self, x):
            return (self.maxima(x) * Tensor(gradient)).sum()

    np.testing.assert_array_equal(
        maxima.set_train(True)(Tensor(x)).asnumpy(), maxima.set_train(False)(Tensor(x)).asnumpy()
    )
    found = ops.value_and_grad(Weighted().set_train(), 0)(Tensor(x))[1].asnumpy()
    expected = np.zeros_like(x)
    for pool, reach in enumerate((2, 4, 6)):
        for n, c, i, j in np.ndindex(*x.shape):
            top, left = max(i - reach, 0), max(j - reach, 0)
            window = x[n, c, top : i + reach + 1, left : j + reach + 1]
            row, column = np.unravel_index(window.argmax(), window.shape)
            expected[n, c, top + row, left + column] += gradient[n, 3 * pool + c, i, j]
    np.testing.assert_allclose(found, expected, atol=1e-5)
