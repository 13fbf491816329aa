"""Detecting and training by way of bits, with both detectors in tiny."""

import numpy as np
import pytest

import cross_silo.runtime
import faster_rcnn
import yolo
from cross_silo.checkpoint import CheckpointInfo
from cross_silo.detector import InputSize
from cross_silo.errors import UserError
from cross_silo.mistnet.bits import debias
from cross_silo.mistnet.cut_detector import CutDetector, legal_cut
from cross_silo.mistnet.inference import as_trained, bits_at
from cross_silo.mistnet.privacy import Mechanism
from faster_rcnn.settings import Settings as FasterRCNNSettings
from tests.support.cut_network import with_statistics
from yolo.settings import Settings as YOLOSettings

SIZE = InputSize(num_classes=2, height=32, width=32, batch_size=1, eval_batch_size=1, max_boxes=4)


def make_yolo():
    anchors = ((8.0, 8.0), (16.0, 16.0), (24.0, 24.0))
    settings = YOLOSettings(depth_multiple=0.1, width_multiple=1 / 32, anchors=anchors, conf_thres=0.0, max_det=20)
    return yolo.Detector(settings, SIZE), 2


def make_faster_rcnn():
    settings = FasterRCNNSettings(
        backbone="resnet18",
        width=4,
        fpn_out_channels=8,
        rcnn_fc_out_channels=8,
        rpn_proposal_max_num=8,
        rpn_max_num=8,
        num_expected_total_stage2=8,
        num_expected_pos_stage2=2,
        test_score_thr=0.0,
        freeze_at=1,
    )
    return faster_rcnn.Detector(settings, SIZE), "layer1"


@pytest.fixture(scope="module", params=[make_yolo, make_faster_rcnn], ids=["yolo", "faster_rcnn"])
def made(request):
    """A detector, a cut in the middle of its first part, and a network as if it were trained."""
    cross_silo.runtime.start(seed=1)
    detector, cut = request.param()
    return detector, cut, with_statistics(detector.build_network())


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)


def features_of(detector, cut, network, pixels):
    from mindspore import Tensor

    from cross_silo.mistnet.cells import ToFeatures

    return ToFeatures(network, cut).set_train(False)(Tensor(pixels))[0].asnumpy()


def assert_same(found, expected):
    for one, other in zip(found, expected):
        assert len(one[0]) > 0
        for ours, theirs in zip(one, other):
            np.testing.assert_array_equal(ours, theirs)


def test_detecting_in_images_is_detecting_in_their_bits(made):
    """What evaluation sees are the features that a silo would send, noisy ones with its p and q."""
    detector, cut, network = made
    activations = features_of(detector, cut, network, image())
    thresholds = np.median(activations[0].reshape(activations.shape[1], -1), 1).astype(np.float32)
    bits = (activations > thresholds.reshape(1, -1, 1, 1)).astype(np.float32)
    assert 0.1 < bits.mean() < 0.9
    by_bits = CutDetector(detector, cut, thresholds)
    from_features = by_bits.feature_predictor(network)
    found = by_bits.predictor(network)(image())
    assert_same(found, from_features(bits))

    noise = Mechanism(1.0)
    noisy = CutDetector(detector, cut, thresholds, noise).predictor(network)
    first = noisy(image())
    assert_same(noisy(image()), first)
    assert any((a.shape != b.shape) or (a != b).any() for a, b in zip(first[0], found[0]))


@pytest.mark.parametrize(
    "made",
    [pytest.param(make_yolo, id="yolo"), pytest.param(make_faster_rcnn, id="faster_rcnn", marks=pytest.mark.long)],
    indirect=True,
)
def test_training_leaves_what_is_before_the_cut(made):
    from mindspore import Tensor, nn, ops

    detector, cut, network = made
    by_bits = CutDetector(detector, cut)
    before = {name: value.asnumpy().copy() for name, value in network.parameters_dict().items()}
    trainable = {parameter.name: parameter.requires_grad for parameter in network.get_parameters()}
    by_bits.freeze(network)
    assert not any(detector.is_before(parameter.name, by_bits.cut) for parameter in network.trainable_params())
    cell = by_bits.training_cell(network)
    optimizer = nn.SGD(network.trainable_params(), 1e-3, weight_decay=0.1)
    gradient = ops.value_and_grad(cell, None, optimizer.parameters, has_aux=True)
    bits = np.random.default_rng(0).random((1, *by_bits.shape)) < 0.5
    inputs = [
        debias(bits, 0.75, 0.25),
        np.float32([[[4, 4, 20, 20], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]]),
        np.int32([[1, 0, 0, 0]]),
        np.int32([[1, 0, 0, 0]]),
        np.full((1, max(detector.noise_size, 1)), 0.5, np.float32),
    ]
    losses, gradients = gradient(*map(Tensor, inputs))
    assert len(losses) == 1 + len(detector.loss_names) and np.isfinite([float(loss) for loss in losses]).all()
    assert sum(float(np.abs(value.asnumpy()).max()) > 0 for value in gradients) > len(gradients) / 2
    optimizer(gradients)
    changed = {name for name, value in network.parameters_dict().items() if (value.asnumpy() != before[name]).any()}
    assert changed and not any(detector.is_before(name, by_bits.cut) for name in changed)
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(before[parameter.name]))
        parameter.requires_grad = trainable[parameter.name]
    network.set_train(False)


def test_a_cut_may_come_as_text():
    assert legal_cut(make_yolo()[0], "4") == 4
    assert legal_cut(faster_rcnn.Detector, "stem") == "stem"


@pytest.mark.parametrize(
    ("make", "cut", "legal"),
    [(make_yolo, 6, "1, 2, 3, 4, 5"), (make_yolo, "stem", "1, 2, 3"), (make_faster_rcnn, 4, "stem, layer1")],
)
def test_illegal_cuts_are_refused_with_the_legal_ones(make, cut, legal):
    with pytest.raises(UserError, match=f"mistnet.cut_layer: found {cut!r}; expected one of {legal}"):
        CutDetector(make()[0], cut)


def test_a_detector_that_cannot_be_cut():
    class Whole:
        tag = "whole"

    with pytest.raises(UserError, match="detector whole cannot be cut"):
        legal_cut(Whole, 4)


def test_thresholds_are_one_a_channel():
    with pytest.raises(UserError, match="3 thresholds; expected 8, one a channel at cut 2"):
        CutDetector(make_yolo()[0], 2, [0.0] * 3)


def test_the_rest_is_the_detectors():
    detector, cut = make_yolo()
    by_bits = CutDetector(detector, cut)
    assert (by_bits.tag, by_bits.loss_names, by_bits.size) == (detector.tag, detector.loss_names, SIZE)
    with pytest.raises(AttributeError):
        by_bits.no_such_member  # noqa: B018


def test_a_checkpoint_says_how_it_was_trained():
    detector, cut = make_yolo()
    assert as_trained(detector, CheckpointInfo()) is detector
    thresholds = np.float32(np.linspace(-0.1, 0.7, 8))
    info = CheckpointInfo(mistnet=bits_at(cut, thresholds))
    again = as_trained(detector, CheckpointInfo.from_json(info.to_json()))
    assert isinstance(again, CutDetector) and again.cut == cut and again.noise is None
    np.testing.assert_array_equal(again.thresholds, thresholds)
