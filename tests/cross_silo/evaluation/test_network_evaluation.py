"""A network measured with the weights that it has at the time."""

import numpy as np
import pytest

from cross_silo.config.model import load_model, make_detector
from cross_silo.data.coco import read_coco
from cross_silo.errors import UserError
from cross_silo.evaluation.network_evaluation import NetworkEvaluation
from tests.support.colour_squares import write_set


@pytest.fixture
def parts(tmp_path):
    dataset = read_coco(write_set(tmp_path))
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\n")
    model = load_model(tmp_path / "model.yaml")
    detector = make_detector(model, 3)
    return detector, detector.build_network(), model.config, dataset


def test_present_weights_decide_and_stay(parts, tmp_path):
    from mindspore import Tensor

    network = parts[1]
    evaluation = NetworkEvaluation(*parts, tmp_path / "images")
    batches = []
    for threshold, expected in ((300, 0.0), (200, 1.0), (300, 0.0)):
        network.threshold.set_data(Tensor(np.float32(threshold)))
        before = {p.name: p.asnumpy().copy() for p in network.get_parameters()}
        measured = evaluation.measure(lambda: batches.append(1))
        assert measured.metrics()["AP"] == pytest.approx(expected) and measured.seconds > 0
        assert len(measured.detections) == 15 * expected
        for parameter in network.get_parameters():
            np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])
    assert len(batches) == 3 * 3  # five images, two a prediction


def test_a_missing_directory_is_named(parts, tmp_path):
    with pytest.raises(UserError, match="image_dir .*nowhere is no directory"):
        NetworkEvaluation(*parts, tmp_path / "nowhere")
