from dataclasses import fields

import pytest

from cross_silo.errors import UserError
from faster_rcnn.settings import Settings


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"backbone": "vgg16"}, "backbone"),
        ({"stride_in": "5x5"}, "stride_in"),
        ({"stride_in": "1x1", "backbone": "resnet18"}, "stride_in"),
        ({"freeze_at": 6}, "freeze_at"),
        ({"width": 0}, "width"),
        ({"width": "64"}, "width"),
        ({"frozen_batch_norm": 1}, "frozen_batch_norm"),
        ({"anchor_scales": []}, "anchor_scales"),
        ({"anchor_scales": 8}, "anchor_scales"),
        ({"anchor_ratios": [1.0, -1.0]}, "anchor_ratios"),
        ({"anchor_strides": [4, 16, 32]}, "anchor_strides"),
        ({"anchor_strides": [16, 32]}, "anchor_strides"),
        ({"anchor_strides": [4, 8, 16]}, "anchor_strides"),
        ({"rcnn_target_stds": [0.1, 0.1]}, "rcnn_target_stds"),
        ({"roi_align_finest_scale": 0}, "roi_align_finest_scale"),
        ({"neg_iou_thr": 0.8}, "neg_iou_thr"),
        ({"pos_iou_thr_stage2": 0.4}, "neg_iou_thr_stage2"),
        ({"min_pos_iou": 0.0}, "min_pos_iou"),
        ({"num_expected_pos": 300}, "num_expected_pos"),
        ({"num_expected_pos_stage2": 0}, "num_expected_pos_stage2"),
        ({"rpn_nms_pre": 0}, "rpn_nms_pre"),
        ({"test_iou_thr": 1.5}, "test_iou_thr"),
        ({"flip_ratio": -0.1}, "flip_ratio"),
        ({"rcnn_loss_reg_weight": -1.0}, "rcnn_loss_reg_weight"),
        ({"hue": 0.6}, "hue"),
    ],
)
def test_a_contradiction_names_its_key(values, key):
    with pytest.raises(UserError, match=f"^{key}: found .*expected "):
        Settings(**values)


def test_yaml_values_take_the_keys_types():
    settings = Settings(anchor_scales=[4, 8], anchor_strides=[8, 16, 32], min_pos_iou=1, num_expected_pos=64)
    assert settings.anchor_scales == (4.0, 8.0) and isinstance(settings.anchor_scales[0], float)
    assert settings.anchor_strides == (8, 16, 32)
    assert isinstance(settings.min_pos_iou, float)


def test_every_key_has_a_default():
    assert Settings() == Settings(**{item.name: item.default for item in fields(Settings)})
