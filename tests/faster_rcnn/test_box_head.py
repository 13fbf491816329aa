import numpy as np
import pytest

from faster_rcnn.box_head import BoxHead


def dense(layer, x):
    return x @ layer.weight.asnumpy().T + layer.bias.asnumpy()


def test_equals_two_hidden_layers():
    from mindspore import Tensor

    regions = np.random.default_rng(0).standard_normal((5, 3, 3, 2), np.float32)
    head = BoxHead(18, 16, 4)
    logits, deltas = (x.asnumpy() for x in head(Tensor(regions)))
    hidden = np.maximum(dense(head.fc2, np.maximum(dense(head.fc1, regions.reshape(5, 18)), 0)), 0)
    np.testing.assert_allclose(logits, dense(head.cls, hidden), atol=1e-5)
    np.testing.assert_allclose(deltas, dense(head.bbox, hidden).reshape(5, 4, 4), atol=1e-5)
    assert logits.shape == (5, 5)


@pytest.mark.parametrize("norm", ["", "batch"])
def test_parameter_names(norm):
    names = {p.name for p in BoxHead(18, 16, 4, norm).get_parameters()}
    expected = {f"{layer}.{kind}" for layer in ("fc1", "fc2", "cls", "bbox") for kind in ("weight", "bias")}
    kinds = ("gamma", "beta", "moving_mean", "moving_variance")
    norms = {f"norm{i}.{kind}" for i in (1, 2) for kind in kinds} if norm else set()
    assert names == expected | norms
