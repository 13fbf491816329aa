"""Every key of the settings changes what is built, computed or loaded; none is read and ignored."""

from dataclasses import fields, replace

import numpy as np
import pytest

from cross_silo.data.transforms import Sample, apply
from cross_silo.detector import InputSize
from yolo import Detector
from yolo.settings import STRIDES, Settings

SIDE, IMAGES, BOXES, CLASSES = 64, 2, 3, 3
SIZE = InputSize(CLASSES, SIDE, SIDE, IMAGES, IMAGES, BOXES)
SMALL = Settings(
    variant="n",
    anchors=((6.0, 9.0, 16.0, 12.0), (20.0, 30.0, 30.0, 16.0), (50.0, 40.0, 40.0, 60.0)),
    degrees=10.0,
    shear=5.0,
    flipud=0.5,
)


def network(settings):
    """Names, shapes and trainability of the parameters."""
    net = Detector(settings, SIZE).build_network()
    return [(p.name, p.shape, p.requires_grad) for p in net.get_parameters()]


def losses(settings):
    """The losses of fixed outputs of the network."""
    from mindspore import Tensor, nn

    rng = np.random.default_rng(0)
    channels = settings.anchors_per_position * (5 + CLASSES)
    levels = [rng.standard_normal((IMAGES, channels, SIDE // s, SIDE // s)).astype(np.float32) for s in STRIDES]

    class Fixed(nn.Cell):
        def __init__(self):
            super().__init__()
            self.levels = [Tensor(level) for level in levels]

        def construct(self, image):
            return self.levels[0], self.levels[1], self.levels[2]

    boxes = np.array([[[2, 2, 26, 26], [30, 20, 62, 40], [8, 40, 20, 60]]] * IMAGES, np.float32)
    labels, valid = np.zeros((IMAGES, BOXES), np.int32), np.ones((IMAGES, BOXES), np.int32)
    noise, image = np.zeros((IMAGES, 1), np.float32), np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8)
    cell = Detector(settings, SIZE).training_cell(Fixed())
    return [float(loss) for loss in cell(*(Tensor(x) for x in (image, boxes, labels, valid, noise)))]


def detections(settings):
    """What is left of fixed scored boxes."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30, (1, 40, 2))
    boxes = np.concatenate([low, low + 20], -1).astype(np.float32)
    scores = rng.uniform(0, 0.3, (1, 40, CLASSES)).astype(np.float32)
    return [array.tolist() for array in Detector(settings, SIZE).export_detections([scores, boxes])[0]]


def images(settings):
    """Transformed training images."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)

    def sample():
        return Sample(pixels, np.array([[10, 0, 30, 20]], np.float32), np.zeros(1, np.int32), np.zeros(1, bool))

    steps = Detector(settings, SIZE).train_transforms()
    out = [apply(steps, sample(), rng, [sample() for _ in range(3)]) for _ in range(8)]
    return [(each.image.tobytes(), each.boxes.tolist()) for each in out]


OPTIONS = [
    (network, {"variant": "s", "depth_multiple": 0.67, "width_multiple": 0.125, "freeze": 2}),
    (losses, {"anchors": SMALL.anchors[::-1], "anchor_t": 2.0, "label_smoothing": 0.1}),
    (losses, {"box": 0.1, "cls": 0.3, "obj": 0.7}),
    (detections, {"conf_thres": 0.2, "iou_thres": 0.2, "max_det": 5}),
    (images, {"mosaic": 0.0, "degrees": 0.0, "translate": 0.2, "scale": 0.1, "shear": 0.0}),
    (images, {"flipud": 0.0, "fliplr": 0.0, "hsv_h": 0.1, "hsv_s": 0.0, "hsv_v": 0.0}),
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
