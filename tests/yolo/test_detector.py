import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.config.model import load_model, make_detector
from cross_silo.data.transforms import Sample, apply
from cross_silo.detector import InputSize, find_detector
from cross_silo.errors import UserError
from tests.support.squares_learner import learn_squares
from yolo import Detector
from yolo.settings import Settings

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def tiny():
    return make_detector(load_model(CONFIGS / "yolov5_tiny.yaml"), 3)


def test_is_found_without_mindspore():
    code = (
        "import sys; from cross_silo.detector import find_detector; find_detector('yolo'); "
        "sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, check=False).returncode == 0
    assert find_detector("yolo") is Detector


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("yolov5*.yaml")), ids=lambda path: path.stem)
def test_configs_are_valid(path):
    make_detector(load_model(path), 3)


@pytest.mark.parametrize(("height", "width", "key"), [(100, 96, "img_height"), (96, 0, "img_width")])
def test_refuses_a_size_that_the_strides_do_not_divide(height, width, key):
    with pytest.raises(UserError, match=f"^{key}: .*multiple of 32"):
        Detector(Settings(), InputSize(3, height, width, 2, 2, 8))


def test_refuses_no_classes():
    with pytest.raises(UserError, match="^num_classes: "):
        Detector(Settings(), InputSize(0, 64, 64, 2, 2, 8))


def test_learns_to_find_a_square(tiny):
    """One class a colour, on plain ground; a few dozen steps overfit one batch."""
    from mindspore import nn

    found, boxes, labels = learn_squares(tiny, lambda parameters: nn.Adam(parameters, 0.005), steps=200)
    for i, (box, score, label) in enumerate(found):
        assert score[0] > 0.5 and label[0] == labels[i, 0]
        np.testing.assert_allclose(box[0], boxes[i, 0], atol=4)


def test_suppression_limits_what_it_is_given():
    """Scores just above the threshold are the usual thing; at most 30,000 of them are compared."""
    detector = Detector(Settings(max_det=2), InputSize(2, 64, 64, 1, 1, 8))
    scores = np.full((1, 20000, 2), 0.01, np.float32)
    scores[0, -1, 1] = 0.9
    boxes = np.tile(np.float32([0, 0, 10, 10]), (1, 20000, 1))
    [(box, score, label)] = detector.export_detections([scores, boxes])
    np.testing.assert_allclose(score, [0.9, 0.01])
    assert label.tolist() == [1, 0] and box.shape == (2, 4)


def test_an_object_may_be_of_several_classes():
    detector = Detector(Settings(conf_thres=0.2), InputSize(3, 64, 64, 1, 1, 8))
    scores, boxes = np.float32([[[0.5, 0.1, 0.6]]]), np.float32([[[-5, 0, 10, 10]]])
    [(box, score, label)] = detector.export_detections([scores, boxes])
    assert label.tolist() == [2, 0] and score.tolist() == [np.float32(0.6), np.float32(0.5)]
    np.testing.assert_array_equal(box, [[-5, 0, 10, 10]] * 2)


def test_transforms_fit_the_input():
    rng = np.random.default_rng(0)
    detector = Detector(Settings(), InputSize(3, 64, 96, 2, 2, 8))

    def sample():
        box = np.array([[10, 0, 30, 20]], np.float32)
        return Sample(np.zeros((40, 40, 3), np.uint8), box, np.zeros(1, np.int32), np.zeros(1, bool))

    plain = apply(detector.eval_transforms(), sample(), rng)
    assert plain.image.shape == (64, 96, 3)
    np.testing.assert_allclose(plain.boxes, [[16 + 16, 0, 48 + 16, 32]], rtol=1e-5)
    for _ in range(5):
        mixed = apply(detector.train_transforms(), sample(), rng, [sample() for _ in range(3)])
        assert mixed.image.shape == (64, 96, 3) and mixed.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.0.conv.weight", "model.0.conv.weight"),
        ("model.0.bn.running_mean", "model.0.bn.moving_mean"),
        ("module.model.4.m.1.cv2.bn.weight", "model.4.m.1.cv2.bn.gamma"),
        ("model.model.9.cv1.bn.bias", "model.9.cv1.bn.beta"),
        ("model.24.m.2.bias", "model.24.m.2.bias"),
        ("model.model.2.conv1.conv.weight", "model.2.cv1.conv.weight"),  # mindyolo's
        ("model.model.2.m.0.conv2.bn.moving_variance", "model.2.m.0.cv2.bn.moving_variance"),
        ("model.model.24.m.0.weight", "model.24.m.0.weight"),
        ("network.model.23.cv3.bn.gamma", "model.23.cv3.bn.gamma"),
        ("model.24.anchors", None),
        ("model.24.anchor_grid", None),
        ("model.model.24.stride", None),
        ("model.0.bn.num_batches_tracked", None),
        ("moments.model.0.conv.weight", None),
        ("model.0.conv.bias", None),
        ("global_step", None),
    ],
)
def test_map_pretrained(tiny, theirs, ours):
    assert tiny.map_pretrained(theirs) == ours


def test_own_names_map_to_themselves(tiny):
    for parameter in tiny.build_network().get_parameters():
        assert tiny.map_pretrained(parameter.name) == parameter.name
