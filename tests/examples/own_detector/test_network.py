"""The example's losses and detections against numpy."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.detector import InputSize, find_detector
from cross_silo.errors import UserError

EXAMPLES = str(Path(__file__).resolve().parents[3] / "examples")
SIZE = InputSize(num_classes=2, height=32, width=48, batch_size=1, eval_batch_size=1, max_boxes=3)
BOXES = np.array([[[4, 6, 20, 22], [30, 0, 46, 16], [0, 0, 0, 0]]], np.float32)
LABELS = np.array([[0, 1, 0]], np.int32)


@pytest.fixture(scope="module", autouse=True)
def importable():
    runtime.start(seed=1)
    sys.path.insert(0, EXAMPLES)
    yield
    sys.path.remove(EXAMPLES)


@pytest.fixture(scope="module")
def detector(importable):
    found = find_detector("own_detector:CenterNet")
    return found(found.settings_type(channels=4), SIZE)


@pytest.fixture(scope="module")
def fixed(detector):
    """A stand-in for the network with the outputs that it is given."""
    from mindspore import Parameter, Tensor, nn

    class Fixed(nn.Cell):
        def __init__(self, heat, box):
            super().__init__()
            self.num_classes = heat.shape[1]
            self.heat_map = Parameter(Tensor(heat.reshape(1, heat.shape[1], -1)), name="heat_map")
            self.boxes = Parameter(Tensor(box), name="boxes")

        def construct(self, image):
            return self.heat_map + 0, self.boxes + 0

    return Fixed


def expected_losses(heat, box, boxes, labels, valid):
    """Return (heat, box) of one image, position by position."""
    classes, h, w = heat.shape
    target, weight = np.zeros(heat.shape), np.ones((h, w))
    box_loss, objects = 0.0, max(int((valid == 1).sum()), 1)
    y, x = np.mgrid[:h, :w]
    for (x1, y1, x2, y2), label, kind in zip(boxes.astype(float) / 4, labels, valid):
        if kind == -1:
            weight[(x + 0.5 > x1) & (x + 0.5 < x2) & (y + 0.5 > y1) & (y + 0.5 < y2)] = 0
        if kind != 1:
            continue
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        column, row = min(int(cx), w - 1), min(int(cy), h - 1)
        sigma_x, sigma_y = max((x2 - x1) / 6, 0.4), max((y2 - y1) / 6, 0.4)
        bell = np.exp(-(((x - column) / sigma_x) ** 2 + ((y - row) / sigma_y) ** 2) / 2)
        target[label] = np.maximum(target[label], bell)
        wanted = [cx - column, cy - row, np.log(x2 - x1), np.log(y2 - y1)]
        box_loss += np.abs(box[row * w + column] - wanted).sum()
    p = 1 / (1 + np.exp(-heat.astype(float)))
    loss = np.where(target == 1, -((1 - p) ** 2) * np.log(p), -((1 - target) ** 4) * p**2 * np.log(1 - p))
    return (loss * weight).sum() / objects, box_loss / objects


@pytest.mark.parametrize("valid", [(1, 1, 0), (1, -1, 0), (0, 0, 0)])
def test_losses_are_those_of_a_loop(detector, fixed, valid):
    from mindspore import Tensor

    rng = np.random.default_rng(0)
    heat = rng.standard_normal((1, 2, 8, 12)).astype(np.float32)
    box = rng.standard_normal((1, 96, 4)).astype(np.float32)
    valid = np.array([valid], np.int32)
    inputs = (np.zeros((1, 32, 48, 3), np.uint8), BOXES, LABELS, valid, np.zeros((1, 1), np.float32))
    found = [float(loss) for loss in detector.training_cell(fixed(heat, box))(*map(Tensor, inputs))]
    expected = expected_losses(heat[0], box[0], BOXES[0], LABELS[0], valid[0])
    np.testing.assert_allclose(found, [sum(expected), *expected], rtol=1e-4)


def test_detects_the_peaks(detector, fixed):
    heat = np.full((1, 2, 8, 12), -5, np.float32)
    box = np.zeros((1, 96, 4), np.float32)
    for (x1, y1, x2, y2), label, logit in zip(BOXES[0, :2] / 4, LABELS[0], (2, 1)):
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        column, row = int(cx), int(cy)
        heat[0, label, row - 1 : row + 2, column - 1 : column + 2] = logit - 1  # neighbours of a peak are none
        heat[0, label, row, column] = logit
        box[0, row * 12 + column] = [cx - column, cy - row, np.log(x2 - x1), np.log(y2 - y1)]
    network = fixed(heat, box).set_train()
    [(boxes, scores, labels)] = detector.predictor(network)(np.zeros((1, 32, 48, 3), np.uint8))
    assert network.training
    np.testing.assert_allclose(boxes, BOXES[0, :2], atol=1e-4)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-2.0, -1.0])), rtol=1e-5)
    np.testing.assert_array_equal(labels, [0, 1])


def test_the_networks_outputs_have_the_shapes_of_the_stand_in(detector):
    from mindspore import Tensor

    heat, box = detector.build_network()(Tensor(np.zeros((1, 32, 48, 3), np.uint8)))
    assert (heat.shape, box.shape) == ((1, 2, 96), (1, 96, 4))


def test_what_does_not_fit_is_refused(detector):
    found = type(detector)
    with pytest.raises(ValueError, match="img_width is 40, expected a multiple of 16"):
        found(found.settings_type(), InputSize(2, 32, 40, 1, 1, 3))
    with pytest.raises(ValueError, match="channels is 0"):
        found.settings_type(channels=0)


def test_a_module_that_is_not_importable_says_how_it_would_be():
    with pytest.raises(UserError, match="'own_detectors:CenterNet' cannot be imported.*PYTHONPATH"):
        find_detector("own_detectors:CenterNet")
