"""The function that detects, on a cell of one line."""

import numpy as np
import pytest

from cross_silo import runtime

runtime.prepare()
runtime.start(seed=1)

from mindspore import nn  # noqa: E402

from cross_silo.detection.predictor import make_predictor  # noqa: E402


class Cell(nn.Cell):
    """Twice the images, or in training mode nothing; and the images."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, image):
        return image * (0 if self.training else 2), image


@pytest.mark.parametrize("training", [True, False])
def test_outputs_reach_suppression_in_evaluation_mode_and_the_flag_stays(training):
    network = nn.Dense(1, 1).set_train(training)
    predict = make_predictor(Cell(network), network, lambda arrays: [array.tolist() for array in arrays])
    assert predict(np.float32([1, 2])) == [[2, 4], [1, 2]]
    assert network.training is training
