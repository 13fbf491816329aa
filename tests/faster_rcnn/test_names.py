"""torchvision's and MindSpore's names and layouts, both ways, and the same outputs from the same numbers."""

import numpy as np
import pytest

from faster_rcnn.anchors import make_anchors
from faster_rcnn.names import (
    TorchvisionFasterRCNN,
    TorchvisionResNet,
    anchor_shift,
    from_torchvision,
    map_pretrained,
    to_torchvision,
)
from faster_rcnn.settings import Settings


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.weight", "backbone.conv1.weight"),
        ("backbone.conv1.weight", "backbone.conv1.weight"),
        ("bn1.gamma", "backbone.conv1.norm.gamma"),
        ("bn1.running_var", "backbone.conv1.norm.moving_variance"),
        ("layer1.0.bn2.weight", "backbone.layer1.0.conv2.norm.gamma"),
        ("layer3.5.conv3.weight", "backbone.layer3.5.conv3.weight"),
        ("layer1.0.down_sample_layer.0.weight", "backbone.layer1.0.downsample.weight"),
        ("layer1.0.down_sample_layer.1.moving_mean", "backbone.layer1.0.downsample.norm.moving_mean"),
        ("layer2.0.down_sample.1.beta", "backbone.layer2.0.downsample.norm.beta"),
        ("backbone.layer2.0.downsample.1.bias", "backbone.layer2.0.downsample.norm.beta"),
        ("backbone.layer2.0.downsample.norm.gamma", "backbone.layer2.0.downsample.norm.gamma"),
        ("rpn.conv.weight", "rpn.conv.weight"),
        ("box_head.fc1.bias", "box_head.fc1.bias"),
        ("rpn.head.cls_logits.weight", "rpn.cls.weight"),
        ("backbone.body.bn1.running_mean", "backbone.conv1.norm.moving_mean"),
        ("backbone.body.layer2.0.downsample.0.weight", "backbone.layer2.0.downsample.weight"),
        ("backbone.fpn.inner_blocks.0.0.weight", "fpn.lateral.0.weight"),
        ("backbone.fpn.layer_blocks.3.0.bias", "fpn.output.3.bias"),
        ("backbone.fpn.layer_blocks.3.bias", "fpn.output.3.bias"),
        ("backbone.fpn.inner_blocks.4.0.weight", None),
        ("rpn.head.conv.0.0.weight", "rpn.conv.weight"),
        ("rpn.head.conv.bias", "rpn.conv.bias"),
        ("module.rpn.head.bbox_pred.bias", "rpn.bbox.bias"),
        ("roi_heads.box_head.fc6.weight", "box_head.fc1.weight"),
        ("roi_heads.box_head.fc7.bias", "box_head.fc2.bias"),
        ("roi_heads.box_predictor.cls_score.weight", "box_head.cls.weight"),
        ("roi_heads.box_predictor.bbox_pred.weight", "box_head.bbox.weight"),
        ("roi_heads.mask_head.mask_fcn1.weight", None),
        ("end_point.weight", None),
        ("fc.bias", None),
        ("global_step", None),
        ("moments.layer1.0.conv1.weight", None),
        ("bn1.num_batches_tracked", None),
    ],
)
def test_map_pretrained(theirs, ours):
    assert map_pretrained(theirs) == ours


SETTINGS = Settings(roi_align_out_size=2, rcnn_target_stds=(0.1, 0.2, 0.2, 0.4))


def ours():
    """Tensors of every kind, for 2 classes, 3 channels, 2 x 2 bins and 5 hidden values."""
    rng = np.random.default_rng(0)
    shapes = {
        "backbone.conv1.weight": (4, 3, 7, 7),
        "backbone.conv1.norm.gamma": (4,),
        "backbone.conv1.norm.moving_variance": (4,),
        "backbone.layer2.0.conv3.norm.beta": (4,),
        "backbone.layer2.0.downsample.weight": (4, 4, 1, 1),
        "backbone.layer2.0.downsample.norm.moving_mean": (4,),
        "fpn.lateral.0.weight": (3, 4, 1, 1),
        "fpn.output.3.bias": (3,),
        "rpn.conv.weight": (3, 3, 3, 3),
        "rpn.cls.bias": (3,),
        "rpn.bbox.weight": (12, 3, 1, 1),
        "rpn.bbox.bias": (12,),
        "box_head.fc1.weight": (5, 12),
        "box_head.fc2.weight": (5, 5),
        "box_head.cls.weight": (3, 5),
        "box_head.cls.bias": (3,),
        "box_head.bbox.weight": (8, 5),
        "box_head.bbox.bias": (8,),
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_there_and_back():
    tensors = ours()
    naming = TorchvisionFasterRCNN(SETTINGS)
    public = naming.from_ours(tensors)
    assert not public.left_out
    assert {"backbone.body.layer2.0.downsample.1.running_mean", "backbone.body.layer2.0.bn3.bias"} < set(public.tensors)
    back = naming.to_ours(public.tensors)
    assert list(back.tensors) == list(tensors)
    for name, value in tensors.items():
        np.testing.assert_allclose(back.tensors[name], value, rtol=1e-6, atol=1e-7, err_msg=name)
    assert naming.num_classes(back.tensors) == 2 and naming.num_classes({}) is None


def test_our_own_names_are_left_as_they_are():
    tensors = ours()
    found = TorchvisionFasterRCNN(SETTINGS).to_ours(tensors)
    assert all(found.tensors[name] is value for name, value in tensors.items()) and not found.notes


def test_the_first_layer_of_the_box_head_reads_y_x_channel():
    rng = np.random.default_rng(1)
    regions = rng.standard_normal((6, 3, 2, 2)).astype(np.float32)  # region, channel, y, x
    weight = rng.standard_normal((5, 12)).astype(np.float32)
    converted = from_torchvision("roi_heads.box_head.fc6.weight", weight, SETTINGS)
    ours_regions = regions.transpose(0, 2, 3, 1).reshape(6, -1)
    np.testing.assert_allclose(ours_regions @ converted.T, regions.reshape(6, -1) @ weight.T, rtol=1e-5, atol=1e-5)


def test_box_deltas_are_scaled_and_lose_the_backgrounds():
    weight = np.random.default_rng(2).standard_normal((12, 5)).astype(np.float32)
    converted = from_torchvision("roi_heads.box_predictor.bbox_pred.weight", weight, SETTINGS)
    hidden = np.random.default_rng(3).standard_normal(5).astype(np.float32)
    theirs = (weight @ hidden).reshape(3, 4)[1:] / [10, 10, 5, 5]
    np.testing.assert_allclose((converted @ hidden).reshape(2, 4) * SETTINGS.rcnn_target_stds, theirs, rtol=1e-5)
    back = to_torchvision("roi_heads.box_predictor.bbox_pred.weight", converted, SETTINGS)
    np.testing.assert_allclose(back[4:], weight[4:], rtol=1e-6)
    assert not back[:4].any() and back.shape == weight.shape


@pytest.mark.parametrize(("scales", "ratios"), [((8.0,), (0.5, 1.0, 2.0)), ((4.0, 6.0), (1.0, 3.0))])
def test_proposals_stand_where_torchvisions_do(scales, ratios):
    """torchvision's anchors have their centres on multiples of the stride (before it rounds their sides)."""
    settings = Settings(anchor_scales=scales, anchor_ratios=ratios)
    per_position = len(scales) * len(ratios)
    bias = np.random.default_rng(0).standard_normal(4 * per_position).astype(np.float32)
    converted = from_torchvision("rpn.head.bbox_pred.bias", bias, settings)
    for anchors, stride in zip(make_anchors(64, 64, (4, 8), scales, ratios), (4, 8)):
        own = anchors[:per_position].astype(np.float64)
        theirs = own - stride / 2
        found = np.concatenate(decoded(own, converted))
        np.testing.assert_allclose(found, np.concatenate(decoded(theirs, bias)), rtol=1e-5, atol=1e-4)


def decoded(anchors, deltas):
    sides = anchors[:, 2:] - anchors[:, :2]
    deltas = deltas.reshape(-1, 4)
    return anchors[:, :2] + sides / 2 + deltas[:, :2] * sides, sides * np.exp(deltas[:, 2:])


def test_a_head_of_other_anchors_keeps_its_bias():
    bias = np.ones(20, np.float32)
    assert from_torchvision("rpn.head.bbox_pred.bias", bias, Settings()) is bias
    assert anchor_shift(Settings()).shape == (12,)


def test_what_has_no_place_is_left_out_with_the_reason():
    given = ("bn1.num_batches_tracked", "fc.weight", "global_step", "conv1.weight")
    found = TorchvisionResNet().to_ours({name: np.zeros(1, np.float32) for name in given})
    assert list(found.tensors) == ["backbone.conv1.weight"] and not found.notes
    assert "count of batches" in found.left_out["bn1.num_batches_tracked"]
    assert (
        found.left_out["fc.weight"] == "a classifier's last layer" and found.left_out["global_step"] == "name unknown"
    )
    public = TorchvisionResNet().from_ours(ours())
    assert {"conv1.weight", "bn1.weight", "bn1.running_var", "layer2.0.downsample.0.weight"} < set(public.tensors)
    assert public.left_out["fpn.lateral.0.weight"] == "a classifier has no such part"
    assert (
        "no such tensor"
        in TorchvisionFasterRCNN().from_ours({"fpn.lateral.0.norm.gamma": np.ones(3)}).left_out.popitem()[1]
    )
