"""Layers against numpy."""

import math

import numpy as np
import pytest


def convolve(x, weight, stride, padding):
    """Plain sums over the windows of x (N, in, H, W)."""
    n, _, h, w = x.shape
    out, _, k, _ = weight.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = (h + 2 * padding - k) // stride + 1, (w + 2 * padding - k) // stride + 1
    result = np.zeros((n, out, rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = padded[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            result[:, :, i, j] = np.einsum("nchw,ochw->no", window, weight)
    return result


def silu(x):
    return x / (1 + np.exp(-x))


def with_gradient(cell, x):
    """Output, and the gradient of its sum of squares by the input."""
    from mindspore import Tensor, nn, ops

    class Squares(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.cell = cell

        def construct(self, x):
            return (self.cell(x) ** 2).sum()

    gradient = ops.value_and_grad(Squares().set_train(cell.training), 0)(Tensor(x))[1]
    return cell(Tensor(x)).asnumpy(), gradient.asnumpy()


def test_the_stem_is_a_6x6_convolution_of_stride_2():
    from mindspore import Tensor

    from yolo.layers import Conv

    image = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3)).astype(np.uint8)
    stem = Conv(3, 8, 6, 2, stem=True).conv
    assert stem.weight.shape == (8, 3, 6, 6)
    expected = convolve(image.transpose(0, 3, 1, 2) / 255, stem.weight.asnumpy(), 2, 2)
    np.testing.assert_allclose(stem(Tensor(image)).asnumpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_conv_normalises_with_the_batch_and_then_with_the_running_statistics(kernel, stride):
    from mindspore import Tensor

    from yolo.layers import Conv

    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4, 6, 8)).astype(np.float32)
    conv = Conv(4, 8, kernel, stride).set_train()
    raw = convolve(x, conv.conv.weight.asnumpy(), stride, kernel // 2)
    mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
    shape = (1, -1, 1, 1)
    expected = silu((raw - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-3))
    np.testing.assert_allclose(conv(Tensor(x)).asnumpy(), expected, atol=1e-4)
    np.testing.assert_allclose(conv.bn.moving_mean.asnumpy(), 0.03 * mean, atol=1e-5)
    count = raw.size / 8
    kept = conv.bn.moving_variance.asnumpy()
    np.testing.assert_allclose(kept, 0.97 + 0.03 * variance * count / (count - 1), rtol=1e-3)

    conv.set_train(False)
    mean, variance = conv.bn.moving_mean.asnumpy(), kept
    expected = silu((raw - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-3))
    np.testing.assert_allclose(conv(Tensor(x)).asnumpy(), expected, atol=1e-4)


def test_weights_begin_as_the_fields_do():
    from yolo.layers import Conv

    weight = Conv(64, 64, 3).conv.weight.asnumpy()
    bound = 1 / math.sqrt(64 * 9)
    assert np.abs(weight).max() <= bound and abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.02


def test_bottlenecks_add_their_input_where_they_have_a_shortcut():
    from mindspore import Tensor

    from yolo.layers import Bottleneck

    x = np.random.default_rng(2).standard_normal((1, 8, 4, 4)).astype(np.float32)
    with_shortcut, without = Bottleneck(8, True), Bottleneck(8, False)
    for ours, theirs in zip(with_shortcut.get_parameters(), without.get_parameters()):
        theirs.set_data(ours)
    np.testing.assert_allclose(with_shortcut(Tensor(x)).asnumpy(), x + without(Tensor(x)).asnumpy(), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_upsampling_repeats_each_position(training):
    from yolo.layers import Upsample

    x = np.random.default_rng(3).standard_normal((2, 3, 4, 5)).astype(np.float32)
    out, gradient = with_gradient(Upsample().set_train(training), x)
    np.testing.assert_array_equal(out, x.repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(gradient, 8 * x, rtol=1e-5)


def test_sppf_concatenates_maxima_of_5_9_and_13_positions():
    from mindspore import Tensor, nn

    from yolo.layers import SPPF

    sppf = SPPF(16, 16)
    sppf.cv2 = nn.Identity()
    x = np.random.default_rng(4).standard_normal((2, 16, 6, 7)).astype(np.float32)
    out = sppf(Tensor(x)).asnumpy()
    y = sppf.cv1(Tensor(x)).asnumpy()
    assert out.shape == (2, 32, 6, 7)
    np.testing.assert_array_equal(out[:, :8], y)
    for place, reach in ((1, 2), (2, 4), (3, 6)):
        for i in range(6):
            for j in range(7):
                window = y[:, :, max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
                np.testing.assert_array_equal(out[:, 8 * place : 8 * place + 8, i, j], window.max((2, 3)))


def test_the_head_begins_with_rare_objects():
    from yolo.layers import Output

    bias = Output(10000, 3, 4, 16).bias.asnumpy().reshape(3, 9)  # so many inputs that the random part is small
    np.testing.assert_allclose(bias[:, :4], 0, atol=0.01)
    np.testing.assert_allclose(bias[:, 4], math.log(8 / 40**2), atol=0.01)
    np.testing.assert_allclose(bias[:, 5:], math.log(0.6 / (4 - 0.99999)), atol=0.01)
