import numpy as np
import pytest

from faster_rcnn.layers import EPSILON, Conv, FrozenBatchNorm


def convolve(x, weight, stride):
    """Plain loops over the output; padding half the kernel."""
    pad, k = weight.shape[2] // 2, weight.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows = range(0, x.shape[2] - k + 1, stride)
    columns = range(0, x.shape[3] - k + 1, stride)
    out = [[np.einsum("nchw,ochw->no", x[:, :, i : i + k, j : j + k], weight) for j in columns] for i in rows]
    return np.moveaxis(np.array(out), (0, 1), (2, 3))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (7, 2)])
def test_frozen_norm_is_the_affine_map_after_the_convolution(kernel, stride):
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    conv = Conv(3, 4, kernel, stride, norm="frozen")
    gamma, beta, mean = rng.standard_normal((3, 4), np.float32)
    variance = rng.uniform(0.5, 2, 4).astype(np.float32)
    for name, value in zip(("gamma", "beta", "moving_mean", "moving_variance"), (gamma, beta, mean, variance)):
        getattr(conv.norm, name).set_data(Tensor(value))
    x = rng.standard_normal((2, 3, 8, 8), np.float32)
    raw = convolve(x, conv.weight.asnumpy(), stride)
    affine = [v.reshape(1, -1, 1, 1) for v in (gamma, beta, mean, np.sqrt(variance + EPSILON))]
    expected = (raw - affine[2]) / affine[3] * affine[0] + affine[1]
    np.testing.assert_allclose(conv(Tensor(x)).asnumpy(), expected, atol=1e-4)


def test_frozen_norm_does_not_train():
    assert FrozenBatchNorm(4).trainable_params() == []
    assert len(list(FrozenBatchNorm(4).get_parameters())) == 4


def test_batch_norm_uses_the_batch_in_training_and_the_statistics_after():
    from mindspore import Tensor

    rng = np.random.default_rng(1)
    conv = Conv(3, 4, 1, norm="batch")
    x = rng.standard_normal((2, 3, 8, 8), np.float32)
    raw = convolve(x, conv.weight.asnumpy(), 1)
    mean, variance = raw.mean((0, 2, 3), keepdims=True), raw.var((0, 2, 3), keepdims=True)
    trained = conv.set_train()(Tensor(x)).asnumpy()
    np.testing.assert_allclose(trained, (raw - mean) / np.sqrt(variance + EPSILON), atol=1e-4)
    np.testing.assert_allclose(conv.norm.moving_mean.asnumpy(), 0.1 * mean.ravel(), atol=1e-5)
    moving = conv.norm.moving_mean.asnumpy().reshape(mean.shape)
    spread = conv.norm.moving_variance.asnumpy().reshape(mean.shape)
    evaluated = conv.set_train(False)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(evaluated, (raw - moving) / np.sqrt(spread + EPSILON), atol=1e-4)


def test_without_a_norm_it_has_a_bias():
    from mindspore import Tensor

    conv = Conv(3, 4, 3)
    conv.bias.set_data(Tensor(np.arange(4, dtype=np.float32)))
    x = np.random.default_rng(2).standard_normal((1, 3, 6, 6), np.float32)
    expected = convolve(x, conv.weight.asnumpy(), 1) + np.arange(4).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(conv(Tensor(x)).asnumpy(), expected, atol=1e-4)
