from dataclasses import fields

import pytest

from cross_silo.detector import InputSize
from cross_silo.errors import UserError
from yolo import Detector
from yolo.settings import Settings


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"variant": "xl"}, "variant"),
        ({"variant": 5}, "variant"),
        ({"depth_multiple": -0.1}, "depth_multiple"),
        ({"width_multiple": -1}, "width_multiple"),
        ({"anchors": 3}, "anchors"),
        ({"anchors": [8, 8]}, "anchors"),
        ({"anchors": [[8.0, 8.0]] * 2}, "anchors"),
        ({"anchors": [[8.0, 8.0, 4.0]] * 3}, "anchors"),
        ({"anchors": [[8.0, 8.0], [16.0, 16.0], [8.0, 8.0, 4.0, 4.0]]}, "anchors"),
        ({"anchors": [[8.0, 0.0]] * 3}, "anchors"),
        ({"anchors": [[], [], []]}, "anchors"),
        ({"freeze": -1}, "freeze"),
        ({"freeze": 25}, "freeze"),
        ({"box": -0.1}, "box"),
        ({"cls": "0.5"}, "cls"),
        ({"obj": -1}, "obj"),
        ({"anchor_t": 1.0}, "anchor_t"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"conf_thres": 1.1}, "conf_thres"),
        ({"iou_thres": -0.1}, "iou_thres"),
        ({"max_det": 0}, "max_det"),
        ({"mosaic": 2}, "mosaic"),
        ({"degrees": 181}, "degrees"),
        ({"translate": 1.5}, "translate"),
        ({"scale": 1.0}, "scale"),
        ({"shear": 45}, "shear"),
        ({"flipud": -1}, "flipud"),
        ({"fliplr": True}, "fliplr"),
        ({"hsv_h": 2}, "hsv_h"),
        ({"hsv_s": -1}, "hsv_s"),
        ({"hsv_v": 1.5}, "hsv_v"),
    ],
)
def test_a_contradiction_names_its_key(values, key):
    with pytest.raises(UserError, match=f"^{key}: found .*expected "):
        Settings(**values)


def test_the_largest_shear_is_one_that_images_can_have():
    size = InputSize(3, 64, 64, 2, 2, 3)
    assert Detector(Settings(shear=44.9), size).train_transforms()


def test_yaml_values_take_the_keys_types():
    settings = Settings(anchors=[[8, 8], [16, 16], [32, 32]], mosaic=1)
    assert settings.anchors == ((8.0, 8.0), (16.0, 16.0), (32.0, 32.0))
    assert isinstance(settings.anchors[0][0], float) and isinstance(settings.mosaic, float)
    assert settings.anchors_per_position == 1


def test_multiples_are_the_variants_unless_given():
    assert Settings(variant="x").multiples == (1.33, 1.25)
    assert Settings(variant="x", depth_multiple=0.5).multiples == (0.5, 1.25)
    assert Settings(variant="n", width_multiple=0.1).multiples == (0.33, 0.1)


def test_every_key_has_a_default():
    assert Settings() == Settings(**{item.name: item.default for item in fields(Settings)})
