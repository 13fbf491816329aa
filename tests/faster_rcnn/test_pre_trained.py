"""A ResNet classifier's checkpoint, under each of the names that are known, gives the backbone the same features."""

import re

import numpy as np
import pytest

from cross_silo.checkpoint.pre_trained import Pretrained, match
from faster_rcnn.names import map_pretrained
from faster_rcnn.resnet import BLOCKS, ResNet, stage_channels

WIDTH = 4
TORCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def classifier(name):
    """Return a ResNet with a classifier whose cells are named as in MindSpore's model zoo; stages are its output."""
    from mindspore import nn, ops

    def conv(inputs, outputs, kernel, stride):
        return nn.Conv2d(inputs, outputs, kernel, stride, pad_mode="pad", padding=kernel // 2)

    class Block(nn.Cell):
        def __init__(self, inputs, outputs, stride, convs, suffix):
            super().__init__()
            self.count = len(convs)
            for i, (middle, kernel, own_stride) in enumerate(convs, 1):
                self.insert_child_to_cell(
                    f"conv{i}", conv(inputs if i == 1 else convs[i - 2][0], middle, kernel, own_stride)
                )
                self.insert_child_to_cell(f"bn{i}{suffix}", nn.BatchNorm2d(middle))
            self.convs = [getattr(self, f"conv{i}") for i in range(1, self.count + 1)]
            self.norms = [getattr(self, f"bn{i}{suffix}") for i in range(1, self.count + 1)]
            self.projects = stride != 1 or inputs != outputs
            if self.projects:
                self.down_sample_layer = nn.SequentialCell(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

        def construct(self, x):
            out = x
            for i in range(self.count):
                out = self.norms[i](self.convs[i](out))
                if i < self.count - 1:
                    out = ops.relu(out)
            return ops.relu(out + (self.down_sample_layer(x) if self.projects else x))

    class Classifier(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, WIDTH, 7, 2), nn.BatchNorm2d(WIDTH)
            self.pool = nn.MaxPool2d(3, 2, pad_mode="pad", padding=1)
            inputs = WIDTH
            for stage, outputs in enumerate(stage_channels(name, WIDTH)):
                blocks = []
                for index in range(BLOCKS[name][stage]):
                    stride = 2 if stage and not index else 1
                    convs = [(outputs, 3, stride), (outputs, 3, 1)]
                    if name != "resnet18":
                        convs = [(outputs // 4, 1, 1), (outputs // 4, 3, stride), (outputs, 1, 1)]
                    blocks.append(Block(inputs, outputs, stride, convs, "d" if name == "resnet18" else ""))
                    inputs = outputs
                self.insert_child_to_cell(f"layer{stage + 1}", nn.SequentialCell(*blocks))
            self.end_point = nn.Dense(inputs, 10)

        def construct(self, x):
            c2 = self.layer1(self.pool(ops.relu(self.bn1(self.conv1(x)))))
            c3 = self.layer2(c2)
            c4 = self.layer3(c3)
            return c2, c3, c4, self.layer4(c4)

    return Classifier().set_train(False)


def mindcv(name):
    return name.replace("down_sample_layer", "down_sample").replace("end_point", "classifier").replace("bn1d", "bn1")


def torchvision(name):
    name = re.sub(r"(bn\d|down_sample_layer\.1)\.(\w+)", lambda m: f"{m[1]}.{TORCH_NORM[m[2]]}", name)
    return name.replace("down_sample_layer", "downsample").replace("end_point", "fc")


def in_a_zoo_detector(name):
    name = name.replace("down_sample_layer.0", "conv_down_sample").replace("down_sample_layer.1", "bn_down_sample")
    return f"backbone.{name}"


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def published(request, graph_mode):
    """(ResNet's name, tensors under the zoo's names, an image, the four stages of it)."""
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    network = classifier(request.param)
    for parameter in network.get_parameters():
        if parameter.ndim == 1:  # gains, biases and statistics that a mistake would show in
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    image = rng.standard_normal((1, 3, 64, 64)).astype(np.float32)
    stages = [stage.asnumpy() for stage in network(Tensor(image))]
    return request.param, {p.name: p.asnumpy() for p in network.get_parameters()}, image, stages


@pytest.mark.parametrize("rename", [str, mindcv, torchvision, in_a_zoo_detector])
def test_the_features_are_the_classifiers(published, rename, tmp_path):
    import mindspore
    from mindspore import Tensor

    name, tensors, image, stages = published
    if name == "resnet18" and rename is not str:
        tensors = {re.sub(r"bn(\d)d", r"bn\1", theirs): value for theirs, value in tensors.items()}
    path = str(tmp_path / "resnet.ckpt")
    entries = [{"name": rename(theirs), "data": Tensor(value)} for theirs, value in tensors.items()]
    mindspore.save_checkpoint([*entries, {"name": "moments.conv1.weight", "data": Tensor(np.zeros(3))}], path)

    network = ResNet(name, WIDTH, frozen_batch_norm=True)
    shapes = {f"backbone.{p.name}": p.shape for p in network.get_parameters()}
    matching = match(Pretrained.read(path), shapes, map_pretrained)
    assert sorted(matching.values) == sorted(shapes)
    assert len(matching.unknown) == 3 and not matching.absent and not matching.misshapen
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(matching.values[f"backbone.{parameter.name}"]))
    for found, expected in zip(network(Tensor(image)), stages):
        np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_layers_of_a_deeper_resnet_have_no_place():
    shapes = {f"backbone.{p.name}": p.shape for p in ResNet("resnet18", WIDTH).get_parameters()}
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors["layer1.2.conv1.weight"] = np.zeros((WIDTH, WIDTH, 3, 3), np.float32)
    matching = match(Pretrained("resnet34.ckpt", "", tensors), shapes, map_pretrained)
    assert matching.absent == ["layer1.2.conv1.weight"] and not matching.unknown
