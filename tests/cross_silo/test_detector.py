"""A detector is found by the name that the model YAML gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cross_silo.config.model import load_model, make_detector
from cross_silo.detector import find_detector
from cross_silo.errors import UserError


def test_a_package_stands_for_its_class():
    assert find_detector("faster_rcnn") is find_detector("faster_rcnn.detector:FasterRCNN")


@pytest.mark.parametrize(
    "name, part",
    [("no_such_package", "cannot be imported"), ("faster_rcnn:Missing", "has no class 'Missing'")],
)
def test_what_cannot_be_found_is_named(name, part):
    with pytest.raises(UserError, match=part):
        find_detector(name)


def test_a_detectors_class_comes_without_mindspore():
    code = (
        "import sys; from cross_silo.detector import find_detector; "
        "find_detector('faster_rcnn'); print('mindspore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "text, part",
    [
        ("detector: faster_rcnn\nanchor_scale: [4]\n", "unknown key 'anchor_scale'; did you mean 'anchor_scales'?"),
        ("detector: faster_rcnn\nimg_hight: 64\n", "unknown key 'img_hight'; did you mean 'img_height'?"),
        ("img_height: 64\n", "required key 'detector' is missing"),
        ("detector: faster_rcnn\nlr_schedule: cosine\n", "lr_total_steps is 0, expected more than warmup_step"),
        ("detector: faster_rcnn\nlr_steps: [5]\n", "lr_steps is [5] with lr_schedule constant"),
        ("detector: faster_rcnn\noptimizer: lion\n", "expected one of momentum, sgd, adam"),
    ],
)
def test_a_models_wrong_key_is_named(tmp_path, text, part):
    file = tmp_path / "m.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_model(file)
    assert part in str(error.value) and str(error.value).startswith(str(file))


def test_the_number_of_classes_comes_from_yaml_or_data(tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text("detector: faster_rcnn\n")
    assert make_detector(load_model(file), 3).size.num_classes == 3
    with pytest.raises(UserError, match="num_classes is 0 and there is no data"):
        make_detector(load_model(file))
    file.write_text("detector: faster_rcnn\nnum_classes: 4\n")
    assert make_detector(load_model(file)).size.num_classes == 4
    with pytest.raises(UserError, match="num_classes is 4, but the data has 3"):
        make_detector(load_model(file), 3)
