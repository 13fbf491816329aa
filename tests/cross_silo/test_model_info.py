"""Parameters against the published count, multiply-adds against layer-by-layer arithmetic."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from cross_silo import runtime
from cross_silo.config.model import load_model, make_detector
from cross_silo.errors import UserError
from cross_silo.model_info import (
    ELSEWHERE,
    Costs,
    Operation,
    Part,
    add_costs,
    count_costs,
    count_parameters,
    read_graph,
)

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = 41_755_286
"""torchvision's fasterrcnn_resnet50_fpn, COCO_V1: num_params. Its frozen batch norm has buffers, no parameters."""
BLOCKS = ((3, 64, 256), (4, 128, 512), (6, 256, 1024), (3, 512, 2048))
"""ResNet-50: bottlenecks, their inner channels, their output channels."""


@pytest.fixture(scope="module", autouse=True)
def started():
    runtime.prepare()
    runtime.start(seed=1)


def published_tensors():
    """Return shape by our name of each tensor of the published model, from its architecture (91 classes)."""
    shapes = {"backbone.conv1.weight": (64, 3, 7, 7)}
    channels = 64
    for stage, (blocks, middle, out) in enumerate(BLOCKS, 1):
        for block in range(blocks):
            prefix = f"backbone.layer{stage}.{block}"
            shapes[f"{prefix}.conv1.weight"] = (middle, channels, 1, 1)
            shapes[f"{prefix}.conv2.weight"] = (middle, middle, 3, 3)
            shapes[f"{prefix}.conv3.weight"] = (out, middle, 1, 1)
            if block == 0:
                shapes[f"{prefix}.downsample.weight"] = (out, channels, 1, 1)
            channels = out
    for level, (_, _, out) in enumerate(BLOCKS):
        shapes[f"fpn.lateral.{level}.weight"] = (256, out, 1, 1)
        shapes[f"fpn.output.{level}.weight"] = (256, 256, 3, 3)
        shapes[f"fpn.lateral.{level}.bias"] = shapes[f"fpn.output.{level}.bias"] = (256,)
    for name, shape in (
        ("rpn.conv", (256, 256, 3, 3)),
        ("rpn.cls", (3, 256, 1, 1)),
        ("rpn.bbox", (12, 256, 1, 1)),
        ("box_head.fc1", (1024, 256 * 7 * 7)),
        ("box_head.fc2", (1024, 1024)),
        ("box_head.cls", (91, 1024)),
        ("box_head.bbox", (4 * 91, 1024)),
    ):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def test_r50_fpn_has_the_published_parameters_but_for_the_background_boxes():
    published = published_tensors()
    assert sum(map(math.prod, published.values())) == PUBLISHED

    network = make_detector(load_model(CONFIGS / "faster_rcnn_r50_fpn.yaml"), 90).build_network()
    ours = {p.name: tuple(p.shape) for p in network.get_parameters()}
    norms = {name for name in ours if ".norm." in name}
    assert {name.rsplit(".", 1)[1] for name in norms} == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert set(ours) - norms == set(published)
    different = {name: (ours[name], shape) for name, shape in published.items() if ours[name] != shape}
    # The published head has box deltas for background too, which no loss and no detection reads.
    assert different == {
        "box_head.bbox.weight": ((4 * 90, 1024), (4 * 91, 1024)),
        "box_head.bbox.bias": ((4 * 90,), (4 * 91,)),
    }
    parts = count_parameters(network)
    assert list(parts) == ["backbone", "fpn", "rpn", "box_head"]
    affine = sum(math.prod(ours[name]) for name in norms) // 2
    total = sum(part.trainable + part.frozen for part in parts.values())
    assert total - affine == PUBLISHED - 4 * (1024 + 1)
    assert sum(part.statistics for part in parts.values()) == affine == 53_120
    # frozen: stem, layer1 and every batch norm's gain and shift
    stem = math.prod(published["backbone.conv1.weight"])
    layer1 = sum(math.prod(shape) for name, shape in published.items() if ".layer1." in name)
    assert parts["backbone"].frozen == stem + layer1 + affine
    assert parts["fpn"].frozen == parts["rpn"].frozen == parts["box_head"].frozen == 0


CONFIG = """
detector: faster_rcnn
img_height: 64
img_width: 96
num_classes: 5
eval_batch_size: 3
backbone: resnet18
width: 8
freeze_at: 0
fpn_out_channels: 16
rpn_nms_pre: 40
rpn_max_num: 20
rcnn_fc_out_channels: 32
"""


def closed_form():
    """Return multiply-adds and output values of one image by part, from the layers of a ResNet-18 of width 8."""
    height, width = 64, 96

    def conv(part, out, channels, kernel, stride):
        values = out * (height // stride) * (width // stride)
        macs[part] += values * channels * kernel**2
        outputs[part] += values

    macs, outputs = dict.fromkeys(("backbone", "fpn", "rpn", "box_head"), 0), {}
    outputs.update(macs)
    conv("backbone", 8, 3, 7, 2)
    channels = 8
    for stage, out in enumerate((8, 16, 32, 64)):
        stride = 4 * 2**stage
        for _ in range(2):
            conv("backbone", out, channels, 3, stride)
            conv("backbone", out, out, 3, stride)
            if channels != out:
                conv("backbone", out, channels, 1, stride)
            channels = out
        conv("fpn", 16, out, 1, stride)
        conv("fpn", 16, 16, 3, stride)
    positions = sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in (4, 8, 16, 32, 64))
    for out, kernel in ((16, 3), (3 * (1 + 4), 1)):
        macs["rpn"] += positions * out * 16 * kernel**2
        outputs["rpn"] += positions * out
    for out, values in ((32, 16 * 49), (32, 32), (5 + 1, 32), (4 * 5, 32)):
        macs["box_head"] += 20 * out * values
        outputs["box_head"] += 20 * out
    return macs, outputs


COUNT = """
import json, sys
from cross_silo import runtime
from cross_silo.config.model import load_model, make_detector
from cross_silo.model_info import add_costs, count_costs, count_parameters
runtime.prepare()
runtime.start(seed=1)
model = load_model(sys.argv[1])
detector = make_detector(model)
network = detector.build_network()
costs = count_costs(detector, network, model.config)
parts = add_costs(count_parameters(network), costs, model.config.eval_batch_size)
print(json.dumps({name: [part.macs, part.activation_bytes] for name, part in parts.items() if part.macs}))
"""


def test_multiply_adds_are_those_of_the_layers(tmp_path):
    (tmp_path / "model.yaml").write_text(CONFIG)
    done = subprocess.run(  # MindSpore heeds the dump's variables only in a process that has compiled nothing yet
        [sys.executable, "-c", COUNT, tmp_path / "model.yaml"], capture_output=True, text=True, check=True
    )
    macs, outputs = closed_form()
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [macs[name], 4 * outputs[name]] for name in macs}


def test_a_predictor_that_compiles_nothing_is_refused(tmp_path):
    class Silent:
        """Its predictor leaves no graph to read."""

        def predictor(self, network):
            return lambda images: []

    (tmp_path / "model.yaml").write_text(CONFIG)
    with pytest.raises(UserError, match="did not write the compiled graph"):
        count_costs(Silent(), None, load_model(tmp_path / "model.yaml").config)


GRAPH = """
  %1(a) = Conv2D(%x, %w) {instance name: conv2d} primitive_attrs: {group: I64(2)}
      : (<Tensor[Float16], (2, 8, 10, 10)>, <Ref[Tensor[Float16]], (6, 4, 3, 3), ref_key=w>) -> (<Tensor[Float16], (2, 6, 5, 5)>)
      # Fullname with scope: (Default/network-Net/stem-Conv/Conv2D-op0)
  %2(b) = PrimFunc_BatchMatMul(%y, %z, Bool(1), Bool(0))
      : (<Tensor[Float32], (3, 7, 4)>, <Tensor[Float32], (3, 7, 5)>, <Bool, NoShape>) -> (<Tensor[Float32], (3, 4, 5)>)
      # Fullname with scope: (Default/BatchMatMul-op0)
  %3(c) = Conv2DTranspose(%x, %w)
      : (<Tensor[Float32], (2, 8)>) -> (<Tensor[Float32], (2, 8)>)
  %4(d) = ReLU(%3)
      : (<Tensor[Float32], (2, 8)>) -> (<Tensor[Float32], (2, 8)>)
"""  # noqa: E501 - as MindSpore writes it


def test_groups_batches_half_precision_and_what_is_not_counted():
    costs = Costs([])
    read_graph(GRAPH, costs)
    conv, product = costs.operations
    assert conv == Operation("Conv2D", "Default/network-Net/stem-Conv/Conv2D-op0", [(2, 8, 10, 10), (6, 4, 3, 3)],
                             (2, 6, 5, 5), 2)  # fmt: skip
    assert conv.macs == 2 * 6 * 5 * 5 * 4 * 9
    assert product.macs == 3 * 4 * 5 * 7
    assert costs.uncounted == {"Conv2DTranspose": 1}
    parts = add_costs({"stem": Part(trainable=1)}, costs, images=2)
    assert (parts["stem"].macs, parts["stem"].activation_bytes) == (conv.macs // 2, 300)
    assert parts[ELSEWHERE].macs == product.macs // 2
