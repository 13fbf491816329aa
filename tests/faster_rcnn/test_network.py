from dataclasses import replace

import numpy as np
import pytest

from faster_rcnn.network import FasterRCNNNetwork, TrainingCell
from faster_rcnn.settings import Settings

SETTINGS = Settings(
    backbone="resnet18",
    width=4,
    freeze_at=0,
    frozen_batch_norm=False,
    neck_norm=True,
    fpn_out_channels=8,
    anchor_scales=(3.0,),
    anchor_strides=(8, 16, 32, 64),
    num_expected_pos=8,
    num_expected_neg=16,
    rpn_proposal_nms_pre=12,
    rpn_proposal_max_num=12,
    roi_align_out_size=3,
    roi_align_finest_scale=8.0,
    num_expected_pos_stage2=6,
    num_expected_total_stage2=12,
    rcnn_fc_out_channels=16,
)
SIDE, IMAGES, BOXES = 64, 2, 4
NOISE = 3 * (64 + 16 + 4 + 1) + 12 + BOXES  # anchors, proposals, boxes


def batch(valid=((1, 1, -1, 0), (1, 0, 0, 0))):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
    boxes = np.zeros((IMAGES, BOXES, 4), np.float32)
    boxes[0, :3] = [[4, 4, 30, 28], [30, 20, 60, 50], [0, 40, 64, 64]]
    boxes[1, 0] = [10, 12, 40, 44]
    labels = np.array([[0, 2, 1, 0], [1, 0, 0, 0]], np.int32)
    noise = rng.random((IMAGES, NOISE), dtype=np.float32)
    return [image, boxes, labels, np.array(valid, np.int32), noise]


@pytest.fixture(scope="module")
def trained():
    """A training cell, and a function from a batch to its losses and gradients."""
    import mindspore
    from mindspore import Tensor, nn, ops

    mindspore.set_seed(3)
    network = FasterRCNNNetwork(SETTINGS, 3)
    cell = TrainingCell(network, SETTINGS, SIDE, SIDE, IMAGES, BOXES)
    weights = mindspore.ParameterTuple(network.trainable_params())

    class Step(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.cell = cell
            self.step = ops.value_and_grad(cell, None, weights, has_aux=True)

        def construct(self, *inputs):
            return self.step(*inputs)

    step = Step().set_train()

    def run(arrays):
        losses, gradients = step(*(Tensor(array) for array in arrays))
        return np.array([float(loss) for loss in losses]), [g.asnumpy() for g in gradients]

    return network, run


def test_total_is_the_sum_of_the_parts_and_all_parameters_get_a_gradient(trained):
    network, run = trained
    losses, gradients = run(batch())
    np.testing.assert_allclose(losses[0], losses[1:].sum(), rtol=1e-5)
    assert (losses > 0).all()
    for parameter, gradient in zip(network.trainable_params(), gradients):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0, parameter.name


def test_a_step_is_a_function_of_its_inputs(trained):
    _, run = trained
    arrays = batch()
    losses, gradients = run(arrays)
    again, gradients_again = run(arrays)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for first, second in zip(gradients, gradients_again):
        np.testing.assert_allclose(second, first, atol=1e-4 * max(1.0, np.abs(first).max()))
    arrays[4] = 1 - arrays[4]
    assert run(arrays)[0][1] != losses[1]


def test_a_batch_without_boxes_trains_on_background_alone(trained):
    _, run = trained
    losses, gradients = run(batch(np.zeros((IMAGES, BOXES))))
    assert losses[1] > 0 and losses[3] > 0
    assert losses[2] == losses[4] == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_padding_and_crowd_boxes_have_no_class(trained):
    """What stands in rows that are not objects changes nothing, but for where a crowd region lies."""
    _, run = trained
    arrays = batch()
    losses, _ = run(arrays)
    arrays[2] = np.where(arrays[3] == 1, arrays[2], 2).astype(np.int32)
    arrays[1][arrays[3] == 0] = [5, 5, 60, 60]
    np.testing.assert_allclose(run(arrays)[0], losses, rtol=1e-5)
    arrays[3][0, 2] = 0
    assert abs(run(arrays)[0][0] - losses[0]) > 1e-4


def test_published_size():
    """Torchvision's fasterrcnn_resnet50_fpn: 41,755,286 parameters with 91 classes, background among them.

    It counts no frozen norms, and has box deltas for background, too: 4 x (1024 + 1).
    """
    network = FasterRCNNNetwork(Settings(), 90)
    assert sum(p.size for p in network.get_parameters() if ".norm." not in p.name) == 41_755_286 - 4100


def test_parameter_names_are_stable():
    names = {p.name for p in FasterRCNNNetwork(replace(SETTINGS, neck_norm=False), 3).get_parameters()}
    assert {
        "backbone.conv1.weight",
        "backbone.conv1.norm.gamma",
        "backbone.layer2.0.downsample.norm.moving_mean",
        "backbone.layer4.1.conv2.weight",
        "fpn.lateral.0.weight",
        "fpn.output.2.bias",
        "rpn.conv.weight",
        "rpn.cls.weight",
        "rpn.bbox.bias",
        "box_head.fc1.weight",
        "box_head.cls.weight",
        "box_head.bbox.bias",
    } <= names
