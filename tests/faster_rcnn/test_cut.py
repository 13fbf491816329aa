"""Faster R-CNN cut in two: after the stem or after layer1."""

import numpy as np
import pytest

from cross_silo.detector import InputSize
from faster_rcnn import Detector
from faster_rcnn.settings import Settings
from tests.support.cut_network import check_cut, with_statistics


@pytest.fixture(scope="module")
def detector():
    settings = Settings(backbone="resnet18", width=4, fpn_out_channels=8, rcnn_fc_out_channels=16, freeze_at=1)
    return Detector(settings, InputSize(2, 64, 32, 2, 2, 8))


@pytest.fixture(scope="module")
def network(detector):
    return with_statistics(detector.build_network())


@pytest.mark.parametrize("cut", Detector.legal_cuts)
def test_the_halves_compose_to_the_whole_bit_for_bit(detector, network, cut):
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 32, 3)).astype(np.uint8)
    features = check_cut(detector, network, image, cut)
    assert features.shape[2:] == (16, 8)


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", (4, 4)), ("resnet50", (4, 16))])
def test_shape_at_the_cut(backbone, channels):
    detector = Detector(Settings(backbone=backbone, width=4), InputSize(2, 64, 96, 2, 2, 8))
    assert [detector.feature_shape(cut) for cut in detector.legal_cuts] == [(c, 16, 24) for c in channels]


def test_refuses_other_cuts(detector, network):
    from mindspore import Tensor

    with pytest.raises(ValueError, match="cut: expected one of"):
        network.forward_to(Tensor(np.zeros((1, 64, 64, 3), np.uint8)), "layer2")
    with pytest.raises(ValueError, match="cut: expected one of"):
        detector.edge_network("layer2")
