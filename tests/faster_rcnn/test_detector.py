import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.config.model import load_model, make_detector
from cross_silo.data.transforms import Sample, apply
from cross_silo.detector import InputSize, find_detector
from cross_silo.errors import UserError
from faster_rcnn import Detector
from faster_rcnn.settings import Settings
from tests.support.squares_learner import learn_squares

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def tiny():
    return make_detector(load_model(CONFIGS / "faster_rcnn_tiny.yaml"), 3)


def test_is_found_without_mindspore():
    code = (
        "import sys; from cross_silo.detector import find_detector; find_detector('faster_rcnn'); "
        "sys.exit('mindspore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=CONFIGS.parent, check=False).returncode == 0
    assert find_detector("faster_rcnn") is Detector


@pytest.mark.parametrize("name", ["faster_rcnn_tiny", "faster_rcnn_r18_demo", "faster_rcnn_r50_fpn"])
def test_configs_are_valid(name):
    make_detector(load_model(CONFIGS / f"{name}.yaml"), 3)


@pytest.mark.parametrize(("height", "width", "key"), [(100, 96, "img_height"), (96, 0, "img_width")])
def test_refuses_a_size_that_the_strides_do_not_divide(height, width, key):
    with pytest.raises(UserError, match=f"^{key}: .*multiple of 32"):
        Detector(Settings(), InputSize(3, height, width, 2, 2, 8))


def test_refuses_no_classes():
    with pytest.raises(UserError, match="^num_classes: "):
        Detector(Settings(), InputSize(0, 64, 64, 2, 2, 8))


def test_noise_has_a_number_for_each_anchor_and_candidate(tiny):
    anchors = 3 * (8 * 8 + 4 * 4 + 2 * 2)
    assert tiny.noise_size == anchors + 32 + 8
    cell = tiny.training_cell(tiny.build_network())
    assert cell.num_anchors + cell.proposals.max_num + 8 == tiny.noise_size


def test_learns_to_find_a_square(tiny):
    """One class a colour, on plain ground; a few dozen steps overfit one batch."""
    from mindspore import nn

    rng = np.random.default_rng(0)
    found, boxes, labels = learn_squares(
        tiny,
        lambda parameters: nn.Momentum(parameters, 0.02, 0.9),
        steps=100,
        noise=lambda: rng.random((2, tiny.noise_size), dtype=np.float32),
    )
    for i, (box, score, label) in enumerate(found):
        assert score[0] > 0.5 and label[0] == labels[i, 0]
        np.testing.assert_allclose(box[0], boxes[i, 0], atol=6)


def test_transforms_fit_the_input():
    rng = np.random.default_rng(0)
    settings = Settings(flip_ratio=1.0, brightness=0.2)
    detector = Detector(settings, InputSize(3, 64, 96, 2, 2, 8))
    box = np.array([[10, 0, 30, 20]], np.float32)

    def sample():
        return Sample(np.zeros((40, 60, 3), np.uint8), box.copy(), np.zeros(1, np.int32), np.zeros(1, bool))

    flipped = apply(detector.train_transforms(), sample(), rng)
    plain = apply(detector.eval_transforms(), sample(), rng)
    assert flipped.image.shape == plain.image.shape == (64, 96, 3)
    np.testing.assert_allclose(plain.boxes, box * 1.6, rtol=1e-5)
    np.testing.assert_allclose(flipped.boxes, [[96 - 48, 0, 96 - 16, 32]], rtol=1e-5)


def test_own_names_map_to_themselves(tiny):
    for parameter in tiny.build_network().get_parameters():
        assert tiny.map_pretrained(parameter.name) == parameter.name
