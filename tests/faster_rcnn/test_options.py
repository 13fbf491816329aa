"""Every key of the settings changes what is built, computed or loaded; none is read and ignored."""

from dataclasses import fields, replace

import numpy as np
import pytest

from cross_silo.data.transforms import Sample, apply
from cross_silo.detector import InputSize
from faster_rcnn import Detector
from faster_rcnn.settings import Settings

SIDE, IMAGES, BOXES, CLASSES = 64, 2, 3, 3
SIZE = InputSize(CLASSES, SIDE, SIDE, IMAGES, IMAGES, BOXES)
SMALL = Settings(
    backbone="resnet50",
    width=4,
    freeze_at=1,
    fpn_out_channels=4,
    anchor_scales=(3.0,),
    anchor_strides=(8, 16, 32, 64),
    num_expected_pos=8,
    num_expected_neg=24,
    rpn_proposal_nms_pre=12,
    rpn_proposal_max_num=20,
    rpn_nms_pre=12,
    rpn_max_num=20,
    roi_align_out_size=2,
    roi_align_finest_scale=8.0,
    num_expected_pos_stage2=6,
    num_expected_total_stage2=16,
    rcnn_fc_out_channels=8,
)


def network(settings):
    """Names, shapes and trainability of the parameters, and the convolutions' strides."""
    from faster_rcnn.layers import Conv

    net = Detector(settings, SIZE).build_network()
    strides = [(name, cell.conv2d.stride) for name, cell in net.cells_and_names() if isinstance(cell, Conv)]
    return [(p.name, p.shape, p.requires_grad) for p in net.get_parameters()], strides


def suppression(proposals):
    return proposals.kept, proposals.max_num, proposals.min_size, proposals.nms.iou_threshold


def training(settings):
    """Anchors, sampling and pooling of the training cell."""
    from mindspore import nn

    cell = Detector(settings, SIZE).training_cell(nn.Cell())
    pooling = cell.roi_align.bins, cell.roi_align.samples, cell.roi_align.bounds
    samples = cell.rpn_positive, cell.rpn_total, cell.roi_positive, cell.roi_total
    return cell.anchors.asnumpy().tolist(), suppression(cell.proposals), samples, pooling


def detection(settings):
    """What the detection cell suppresses proposals with."""
    from mindspore import nn

    from faster_rcnn.network import DetectionCell

    return suppression(DetectionCell(nn.Cell(), settings, SIDE, SIDE, IMAGES).proposals)


def losses(settings):
    """The losses of fixed outputs of network and box head."""
    from mindspore import Tensor, nn

    anchors = 3 * (64 + 16 + 4 + 1)
    rng = np.random.default_rng(0)
    levels = tuple(Tensor(np.zeros((IMAGES, 4, n, n), np.float32)) for n in (8, 4, 2, 1))
    logits, deltas = rng.standard_normal((IMAGES, anchors)), 0.3 * rng.standard_normal((IMAGES, anchors, 4))
    regions = IMAGES * settings.num_expected_total_stage2
    scores, offsets = rng.standard_normal((regions, CLASSES + 1)), 3 * rng.standard_normal((regions, CLASSES, 4))
    logits, deltas, scores, offsets = (Tensor(x.astype(np.float32)) for x in (logits, deltas, scores, offsets))

    class Fixed(nn.Cell):
        def construct(self, image):
            return levels, logits, deltas

        def box_head(self, pooled):
            return scores, offsets

    boxes = np.array([[[2, 2, 26, 26], [30, 20, 62, 40], [8, 40, 20, 60]]] * IMAGES, np.float32)
    labels, valid = np.zeros((IMAGES, BOXES), np.int32), np.ones((IMAGES, BOXES), np.int32)
    detector = Detector(settings, SIZE)
    noise = rng.random((IMAGES, detector.noise_size), dtype=np.float32)
    cell = detector.training_cell(Fixed())
    image = Tensor(np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8))
    return [float(loss) for loss in cell(image, *(Tensor(x) for x in (boxes, labels, valid, noise)))]


def detections(settings):
    """What is left of fixed scored boxes."""
    import mindspore
    from mindspore import Tensor, nn

    import faster_rcnn.network

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30, (1, 40, CLASSES, 2))
    boxes = np.concatenate([low, low + 20], -1).astype(np.float32)
    scores = rng.uniform(0, 0.3, (1, 40, CLASSES)).astype(np.float32)

    class Scored(nn.Cell):
        def __init__(self, *_):
            super().__init__()

        def __call__(self, image):
            return Tensor(scores), Tensor(boxes, mindspore.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faster_rcnn.network, "DetectionCell", Scored)
        predict = Detector(settings, SIZE).predictor(nn.Cell())
        return [array.tolist() for array in predict(np.zeros((1, SIDE, SIDE, 3), np.uint8))[0]]


def images(settings):
    """Transformed training images."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    box, label = np.array([[10, 0, 30, 20]], np.float32), np.zeros(1, np.int32)
    steps = Detector(settings, SIZE).train_transforms()
    out = [apply(steps, Sample(pixels.copy(), box.copy(), label, label > 0), rng) for _ in range(8)]
    return [(sample.image.tobytes(), sample.boxes.tolist()) for sample in out]


OPTIONS = [
    (network, {"backbone": "resnet101", "width": 8, "stride_in": "1x1", "freeze_at": 2, "frozen_batch_norm": False}),
    (network, {"fpn_out_channels": 8, "neck_norm": True, "rcnn_fc_out_channels": 16}),
    (training, {"anchor_scales": (4.0,), "anchor_ratios": (0.5, 1.0, 3.0), "anchor_strides": (8, 16, 32)}),
    (training, {"num_expected_pos": 7, "num_expected_neg": 23}),
    (training, {"num_expected_pos_stage2": 5, "num_expected_total_stage2": 15}),
    (training, {"rpn_proposal_nms_pre": 11, "rpn_proposal_max_num": 19}),
    (training, {"rpn_proposal_nms_thr": 0.6, "rpn_proposal_min_bbox_size": 1.0}),
    (training, {"roi_align_out_size": 3, "roi_align_sample_num": 1, "roi_align_finest_scale": 9.0}),
    (detection, {"rpn_nms_pre": 11, "rpn_max_num": 19, "rpn_nms_thr": 0.6, "rpn_min_bbox_min_size": 1.0}),
    (losses, {"pos_iou_thr": 0.35, "neg_iou_thr": 0.05, "min_pos_iou": 0.99}),
    (losses, {"rpn_loss_cls_weight": 2.0, "rpn_loss_reg_weight": 2.0, "rpn_smooth_l1_beta": 1.0}),
    (losses, {"pos_iou_thr_stage2": 0.99, "neg_iou_thr_stage2": 0.05, "rcnn_target_stds": (0.1, 0.1, 0.2, 0.3)}),
    (losses, {"rcnn_loss_cls_weight": 2.0, "rcnn_loss_reg_weight": 2.0, "rcnn_smooth_l1_beta": 0.1}),
    (detections, {"test_score_thr": 0.2, "test_iou_thr": 0.2, "test_max_per_img": 5}),
    (images, {"keep_ratio": False, "flip_ratio": 0.0}),
    (images, {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}),
]
CASES = [(key, value, observe) for observe, values in OPTIONS for key, value in values.items()]


def test_the_table_has_every_key():
    assert sorted(key for key, _, _ in CASES) == sorted(field.name for field in fields(Settings))


@pytest.fixture(scope="module")
def unchanged():
    return {observe: observe(SMALL) for observe in dict(OPTIONS)}


@pytest.mark.parametrize(("key", "value", "observe"), CASES, ids=[case[0] for case in CASES])
def test_changes_something(unchanged, key, value, observe):
    assert getattr(SMALL, key) != value
    assert observe(replace(SMALL, **{key: value})) != unchanged[observe]


@pytest.mark.parametrize("observe", dict(OPTIONS), ids=lambda observe: observe.__name__)
def test_the_same_settings_give_the_same(unchanged, observe):
    assert observe(SMALL) == unchanged[observe]
