"""Names and layouts of public checkpoints' tensors (torchvision's and MindSpore's) and of ours."""

from __future__ import annotations

import re
from typing import Mapping, Optional

import numpy as np

from cross_silo.detection.names import BATCHES, BATCHES_REASON, NORM_FROM_OURS, NORM_TO_OURS, Renamed, rename
from faster_rcnn.settings import Settings

WRAPPERS = re.compile(r"^(?:network\.|module\.)?")
BACKBONE = re.compile(r"^(?:backbone\.(?:body\.)?)?")
OWN_PART = re.compile(r"(fpn\.(lateral|output)\.\d|rpn\.(conv|cls|bbox)|box_head\.(fc1|fc2|cls|bbox|norm1|norm2))\.")
CONV = re.compile(
    r"(conv1|layer[1-4]\.\d+\.(conv[1-3]|downsample))\.(weight|norm\.(gamma|beta|moving_mean|moving_variance))"
)
SHORTCUT = r"down_?sample(?:_layer)?"
PARTS = {
    **{f"fpn.lateral.{i}": f"backbone.fpn.inner_blocks.{i}.0" for i in range(4)},
    **{f"fpn.output.{i}": f"backbone.fpn.layer_blocks.{i}.0" for i in range(4)},
    "rpn.conv": "rpn.head.conv.0.0",
    "rpn.cls": "rpn.head.cls_logits",
    "rpn.bbox": "rpn.head.bbox_pred",
    "box_head.fc1": "roi_heads.box_head.fc6",
    "box_head.fc2": "roi_heads.box_head.fc7",
    "box_head.cls": "roi_heads.box_predictor.cls_score",
    "box_head.bbox": "roi_heads.box_predictor.bbox_pred",
}
"""torchvision's name of each part of the detector behind its backbone."""
BEFORE_0_13 = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d|rpn\.head\.conv)\.(weight|bias)")
"""Names of torchvision's older files, without the convolution's place in its block."""
TO_TORCHVISION = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in PARTS.items() for kind in ("weight", "bias")}
FROM_TORCHVISION = {theirs: ours for ours, theirs in TO_TORCHVISION.items()}
FC6, BOXES, ANCHOR_BIAS = (
    "roi_heads.box_head.fc6.weight",
    re.compile(r"roi_heads\.box_predictor\.bbox_pred\.(weight|bias)"),
    "rpn.head.bbox_pred.bias",
)
TORCHVISION_STDS = (0.1, 0.1, 0.2, 0.2)
"""torchvision divides the box head's deltas by 10, 10, 5 and 5."""
CONVENTIONS = (
    "box_head: torchvision pools regions with aligned=False, half a position of the level beside ours",
    "rpn.bbox: torchvision's anchors stand on a position's corner, ours on its centre: the bias is moved by the "
    "difference; torchvision's sides are rounded to whole pixels, ours not: up to 3 % at stride 4, less above",
    "batch norm: the published COCO weights (COCO_V1) are run with an epsilon of 0 in torchvision, here with 1e-5",
)
"""What differs between the two detectors beside the tensors."""


def map_pretrained(name: str) -> Optional[str]:
    """Return our name for a checkpoint's tensor ``name``; None for one that has no place here.

    Beside our own names those of ResNets are known: MindSpore's model zoo (``down_sample_layer.0``, ``bn1d``; in its
    detectors ``conv_down_sample``), MindCV (``down_sample.0``) and torchvision (``downsample.0``, ``running_mean``);
    and torchvision's Faster R-CNN (``backbone.fpn.inner_blocks.0.0``, ``roi_heads.box_head.fc6``).
    """
    name = WRAPPERS.sub("", name)
    part = _from_torchvision(name)
    if part:
        return part
    name = BACKBONE.sub("", name)
    if OWN_PART.match(name):
        return name
    name = re.sub(rf"\.(conv_{SHORTCUT}|{SHORTCUT}\.0)\.", ".downsample.", name)
    norm = re.fullmatch(rf"(|.*\.)(?:bn(\d)d?|bn_{SHORTCUT}|{SHORTCUT}\.1)\.(\w+)", name)
    if norm:
        owner = f"conv{norm[2]}" if norm[2] else "downsample"
        name = f"{norm[1]}{owner}.norm.{NORM_TO_OURS.get(norm[3], norm[3])}"
    return f"backbone.{name}" if CONV.fullmatch(name) else None


def torchvision_resnet_name(name: str) -> Optional[str]:
    """Return torchvision's name in a ResNet of our tensor of the backbone; None: it is none."""
    found = CONV.fullmatch(name.partition("backbone.")[2]) if name.startswith("backbone.") else None
    if not found:
        return None
    owner, norm = found[1], NORM_FROM_OURS.get(found[4])
    if owner.endswith("downsample"):
        return f"{owner}.1.{norm}" if norm else f"{owner}.0.weight"
    return re.sub(r"conv(\d)$", r"bn\1", owner) + f".{norm}" if norm else f"{owner}.weight"


def torchvision_name(name: str) -> Optional[str]:
    """Return torchvision's name in a Faster R-CNN of our tensor; None: it has no such tensor."""
    backbone = torchvision_resnet_name(name)
    if backbone:
        return f"backbone.body.{backbone}"
    return TO_TORCHVISION.get(name)


def from_torchvision(name: str, value: np.ndarray, settings: Settings) -> np.ndarray:
    """Return a checkpoint's tensor ``name`` in our layout; only some of torchvision's Faster R-CNN differ."""
    name = WRAPPERS.sub("", name)
    bins = settings.roi_align_out_size**2
    if name == FC6 and value.ndim == 2 and value.shape[1] % bins == 0:
        # From channel, y, x to y, x, channel.
        return value.reshape(len(value), -1, bins).transpose(0, 2, 1).reshape(value.shape)
    if BOXES.fullmatch(name) and len(value) % 4 == 0 and len(value) > 4:
        return _scaled(value[4:], np.divide(TORCHVISION_STDS, settings.rcnn_target_stds))  # the first is background's
    if name == ANCHOR_BIAS and value.shape == anchor_shift(settings).shape:
        return (value - anchor_shift(settings)).astype(np.float32)
    return value


def to_torchvision(name: str, value: np.ndarray, settings: Settings) -> np.ndarray:
    """Return our tensor as torchvision's ``name``: the inverse of :func:`from_torchvision`.

    The background's box deltas, which torchvision computes and drops, are 0.
    """
    bins = settings.roi_align_out_size**2
    if name == FC6 and value.shape[1] % bins == 0:
        return value.reshape(len(value), bins, -1).transpose(0, 2, 1).reshape(value.shape)
    if BOXES.fullmatch(name):
        scaled = _scaled(value, np.divide(settings.rcnn_target_stds, TORCHVISION_STDS))
        return np.concatenate([np.zeros_like(scaled[:4]), scaled])
    if name == ANCHOR_BIAS and value.shape == anchor_shift(settings).shape:
        return (value + anchor_shift(settings)).astype(np.float32)
    return value


def anchor_shift(settings: Settings) -> np.ndarray:
    """Return float32 (4 A,): half a stride in each anchor's sides, by which its dx and dy differ; dw and dh do not.

    An anchor is ``scale / sqrt(ratio)`` strides wide, ``scale * sqrt(ratio)`` high, at every level.
    """
    roots = np.sqrt(np.asarray(settings.anchor_ratios))[:, None]
    scales = np.asarray(settings.anchor_scales)[None]
    dx, dy = 0.5 * roots / scales, 0.5 / (scales * roots)  # (ratios, scales)
    return np.stack([dx, dy, np.zeros_like(dx), np.zeros_like(dx)], -1).reshape(-1).astype(np.float32)


class TorchvisionFasterRCNN:
    """torchvision's ``fasterrcnn_resnet50_fpn``, both ways; its boxes' class order is ours, background first.

    Args:
        settings: of the model, where a model YAML says them; default: the papers'.
    """

    def __init__(self, settings: Optional[Settings] = None) -> None:
        self.settings = settings or Settings()

    def to_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename, and bring into our layout, a public checkpoint's tensors."""
        renamed = rename(
            tensors, map_pretrained, _reason, lambda name, value: from_torchvision(name, value, self.settings)
        )
        if any(_from_torchvision(WRAPPERS.sub("", name)) for name in tensors):
            renamed.notes.extend(
                [
                    "box_head.bbox: the background's box deltas, which nothing uses, are left out (4 of each output)",
                    *CONVENTIONS,
                ]
            )
        return renamed

    def from_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename, and bring into torchvision's layout, our tensors."""

        def value(name: str, ours: np.ndarray) -> np.ndarray:
            return to_torchvision(torchvision_name(name) or "", ours, self.settings)

        renamed = rename(tensors, torchvision_name, lambda name: "torchvision's has no such tensor", value)
        renamed.notes.extend(
            ["roi_heads.box_predictor.bbox_pred: the background's box deltas, which nothing uses, are 0", *CONVENTIONS]
        )
        return renamed

    def num_classes(self, tensors: Mapping[str, np.ndarray]) -> Optional[int]:
        """Return the number of object classes that our ``tensors`` are for, where the box head is among them."""
        bias = tensors.get("box_head.cls.bias")
        return None if bias is None or bias.size < 2 else bias.size - 1


class TorchvisionResNet(TorchvisionFasterRCNN):
    """torchvision's ResNet classifiers, both ways; of ours the backbone alone."""

    def from_ours(self, tensors: Mapping[str, np.ndarray]) -> Renamed:
        """Rename the backbone's tensors."""
        return rename(tensors, torchvision_resnet_name, lambda name: "a classifier has no such part")


def _from_torchvision(name: str) -> Optional[str]:
    """Return our name for a tensor of torchvision's Faster R-CNN behind its backbone; None: it is none."""
    older = BEFORE_0_13.fullmatch(name)
    if older:
        name = f"{older[1]}.0{'.0' if older[1] == 'rpn.head.conv' else ''}.{older[2]}"
    return FROM_TORCHVISION.get(name)


def _scaled(value: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply rows dx, dy, dw, dh, over and over, of (4 classes, ...) by four ``factors``."""
    if np.all(factors == 1):
        return value
    repeated = np.tile(factors, len(value) // 4).reshape(-1, *[1] * (value.ndim - 1))
    return (value * repeated).astype(np.float32)


def _reason(name: str) -> str:
    if name.endswith(BATCHES):
        return BATCHES_REASON
    if re.search(r"(^|\.)(fc|classifier|end_point)\.(weight|bias)$", name):
        return "a classifier's last layer"
    return "name unknown"
