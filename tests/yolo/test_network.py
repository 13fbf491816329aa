"""The whole network against numpy, its published size, and its halves at each cut."""

from dataclasses import replace

import numpy as np
import pytest

from cross_silo.detector import InputSize
from tests.support.cut_network import check_cut
from yolo import Detector
from yolo.settings import CUTS, Settings

TINY = Settings(
    depth_multiple=0.25, width_multiple=1 / 32, anchors=((8.0, 8.0, 16.0, 16.0), (16.0, 16.0, 32.0, 32.0), (64.0,) * 4)
)
CLASSES = 2


def build(settings=TINY, classes=CLASSES):
    from yolo.network import YOLOv5Network

    return YOLOv5Network(settings, classes)


def images(n=2, height=64, width=96):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def network():
    """A network with statistics as if it were trained, for inference."""
    from mindspore import Tensor

    rng = np.random.default_rng(1)
    net = build()
    for parameter in net.get_parameters():
        if "bn" in parameter.name:
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
        elif "conv" in parameter.name:  # larger, so that an image's details reach the output
            parameter.set_data(parameter * 2)
    return net.set_train(False)


class Reference:
    """Release 6 in numpy, double precision, from the parameters by name."""

    def __init__(self, parameters):
        self.p = {p.name: p.asnumpy().astype(np.float64) for p in parameters}

    def conv(self, x, name, stride=1):
        weight = self.p[f"{name}.conv.weight"]
        k = weight.shape[2]
        pad = 2 if k == 6 else k // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))[:, :, ::stride, ::stride]
        y = np.einsum("nchwij,ocij->nohw", windows, weight)
        mean, variance, gamma, beta = (
            self.p[f"{name}.bn.{key}"].reshape(1, -1, 1, 1)
            for key in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        y = (y - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return y * (1 + np.tanh(y / 2)) / 2

    def c3(self, x, layer, shortcut=True):
        y = self.conv(x, f"model.{layer}.cv1")
        depth = len({name.split(".")[3] for name in self.p if name.startswith(f"model.{layer}.m.")})
        for i in range(depth):
            z = self.conv(self.conv(y, f"model.{layer}.m.{i}.cv1"), f"model.{layer}.m.{i}.cv2")
            y = y + z if shortcut else z
        return self.conv(np.concatenate([y, self.conv(x, f"model.{layer}.cv2")], 1), f"model.{layer}.cv3")

    def sppf(self, x):
        parts = [self.conv(x, "model.9.cv1")]
        for _ in range(3):
            padded = np.pad(parts[-1], ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=-np.inf)
            parts.append(np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (2, 3)).max((4, 5)))
        return self.conv(np.concatenate(parts, 1), "model.9.cv2")

    def head(self, x, level):
        weight, bias = self.p[f"model.24.m.{level}.weight"], self.p[f"model.24.m.{level}.bias"]
        return np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0]) + bias.reshape(1, -1, 1, 1)

    def __call__(self, image):
        def up(x):
            return x.repeat(2, 2).repeat(2, 3)

        def beside(*x):
            return np.concatenate(x, 1)

        x = self.conv(image.transpose(0, 3, 1, 2) / 255, "model.0", 2)
        x = self.c3(self.conv(x, "model.1", 2), 2)
        p3 = self.c3(self.conv(x, "model.3", 2), 4)
        p4 = self.c3(self.conv(p3, "model.5", 2), 6)
        p5 = self.sppf(self.c3(self.conv(p4, "model.7", 2), 8))
        x10 = self.conv(p5, "model.10")
        x14 = self.conv(self.c3(beside(up(x10), p4), 13, False), "model.14")
        x17 = self.c3(beside(up(x14), p3), 17, False)
        x20 = self.c3(beside(self.conv(x17, "model.18", 2), x14), 20, False)
        x23 = self.c3(beside(self.conv(x20, "model.21", 2), x10), 23, False)
        return self.head(x17, 0), self.head(x20, 1), self.head(x23, 2)


def test_is_release_6(network):
    from mindspore import Tensor

    image = images()
    found = network(Tensor(image))
    expected = Reference(network.get_parameters())(image)
    for level, (ours, theirs, stride) in enumerate(zip(found, expected, (8, 16, 32))):
        assert ours.shape == (2, 2 * (5 + CLASSES), 64 // stride, 96 // stride)
        assert theirs.std() > 0.1, f"level {level} says little"
        np.testing.assert_allclose(ours.asnumpy(), theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("cut", CUTS)
def test_the_halves_compose_to_the_whole_bit_for_bit(network, cut):
    detector = Detector(TINY, InputSize(CLASSES, 64, 96, 2, 2, 8))
    payload = check_cut(detector, network, images(), cut)
    stride = (2, 4, 4, 8, 8)[cut - 1]
    assert payload.shape[2:] == (64 // stride, 96 // stride)


@pytest.mark.parametrize("cut", [0, 6])
def test_refuses_other_cuts(network, cut):
    from mindspore import Tensor

    from yolo.network import EdgeNetwork

    with pytest.raises(ValueError, match="cut"):
        network.forward_to(Tensor(images()), cut)
    with pytest.raises(ValueError, match="cut"):
        EdgeNetwork(TINY, cut)


@pytest.mark.parametrize(
    ("variant", "count"),
    [("n", 1_872_157), ("s", 7_235_389), ("m", 21_190_557), ("l", 46_563_709), ("x", 86_749_405)],
)
def test_published_size(variant, count):
    assert sum(p.size for p in build(Settings(variant=variant), 80).trainable_params()) == count


def test_parameter_names_are_the_fields():
    names = {p.name for p in build().get_parameters()}
    assert {
        "model.0.conv.weight",
        "model.0.bn.gamma",
        "model.1.bn.moving_mean",
        "model.2.cv1.conv.weight",
        "model.2.m.0.cv1.conv.weight",
        "model.6.m.1.cv2.bn.beta",
        "model.9.cv1.conv.weight",
        "model.9.cv2.bn.moving_variance",
        "model.23.cv3.conv.weight",
        "model.24.m.0.weight",
        "model.24.m.2.bias",
    } <= names
    assert all(name.startswith("model.") for name in names)


def test_frozen_layers_do_not_train_and_keep_their_statistics():
    from mindspore import Tensor

    net = build(replace(TINY, freeze=3)).set_train()
    trained = {p.name.split(".")[1] for p in net.trainable_params()}
    assert trained == {str(layer) for layer in range(25)} - {"0", "1", "2", "11", "12", "15", "16", "19", "22"}
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    net(Tensor(images()))
    changed = {p.name.split(".")[1] for p in net.get_parameters() if (p.asnumpy() != before[p.name]).any()}
    assert changed == trained - {"24"}


def test_all_trainable_parameters_get_a_gradient(network):
    from mindspore import Tensor, nn, ops

    net = build(replace(TINY, freeze=2)).set_train()

    class Squares(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.network = net

        def construct(self, image):
            p3, p4, p5 = self.network(image)
            return (p3**2).sum() + (p4**2).sum() + (p5**2).sum()

    gradients = ops.value_and_grad(Squares(), None, net.trainable_params())(Tensor(images()))[1]
    for parameter, gradient in zip(net.trainable_params(), gradients):
        found = gradient.asnumpy()
        assert np.isfinite(found).all() and np.abs(found).max() > 0, parameter.name
