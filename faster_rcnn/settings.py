"""The configuration keys of Faster R-CNN; names follow MindSpore's model zoo where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from cross_silo.detection.settings import at_least, between, one_of, take_default_types
from cross_silo.errors import UserError

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STRIDES_IN = ("1x1", "3x3")
STEM, LAYER1 = "stem", "layer1"
CUTS = (STEM, LAYER1)
"""Parts of the backbone after which one tensor is all that the rest needs: the pyramid reads layer1 to layer4."""
CUT_STRIDE = 4
"""Pixels of the network's input per position there."""
FINEST_STRIDES = (4, 8)
COARSEST_STRIDES = (32, 64)


def has_bottlenecks(backbone: str) -> bool:
    """Whether ``backbone`` is built of bottleneck blocks."""
    return backbone not in ("resnet18", "resnet34")


def stage_channels(backbone: str, width: int) -> Tuple[int, ...]:
    """Return the output channels of layer1 to layer4."""
    expansion = 4 if has_bottlenecks(backbone) else 1
    return tuple(width * expansion * 2**stage for stage in range(4))


@dataclass(frozen=True)
class Settings:
    """Defaults are the papers' Faster R-CNN with ResNet-50 and FPN (Ren 2015, Lin 2017)."""

    backbone: str = "resnet50"
    """resnet18, resnet34, resnet50, resnet101 or resnet152."""
    width: int = 64
    """Channels of the backbone's stem; the stages have 1, 2, 4 and 8 times as many (4 times that with bottlenecks)."""
    stride_in: str = "3x3"
    """Where a bottleneck strides: 1x1, its first convolution (ResNet v1), or 3x3, its second one (v1.5)."""
    freeze_at: int = 2
    """How much of the backbone does not train: 0 none, 1 the stem, 2 and layer1, ... 5 all of it."""
    frozen_batch_norm: bool = True
    """Whether batch norm is a fixed affine map from the checkpoint; False trains it with batch statistics."""
    fpn_out_channels: int = 256
    """Channels of every pyramid level."""
    neck_norm: bool = False
    """Batch norm after the pyramid's, the RPN's and the box head's hidden layers; for training from scratch."""

    anchor_scales: Tuple[float, ...] = (8.0,)
    """Square roots of the anchors' areas, in strides of their level."""
    anchor_ratios: Tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights over widths of the anchors."""
    anchor_strides: Tuple[int, ...] = (4, 8, 16, 32, 64)
    """Pixels; each is a pyramid level: powers of two without a gap, from 4 or 8 to 32 or 64."""

    pos_iou_thr: float = 0.7
    """IoU with a box from which on an anchor is an object."""
    neg_iou_thr: float = 0.3
    """IoU with every box below which an anchor is background."""
    min_pos_iou: float = 0.3
    """IoU from which on a box's best anchors are objects whatever pos_iou_thr says."""
    num_expected_pos: int = 128
    """Most object anchors an image's RPN loss samples."""
    num_expected_neg: int = 256
    """Anchors an image's RPN loss samples in all; background fills what objects leave."""
    rpn_loss_cls_weight: float = 1.0
    """Weight of the RPN's objectness loss."""
    rpn_loss_reg_weight: float = 1.0
    """Weight of the RPN's box loss."""
    rpn_smooth_l1_beta: float = 1 / 9
    """Where the RPN's smooth L1 turns linear, in box deltas."""

    rpn_proposal_nms_pre: int = 2000
    """Training: best anchors a level that enter non-maximum suppression."""
    rpn_proposal_max_num: int = 1000
    """Training: proposals an image."""
    rpn_proposal_nms_thr: float = 0.7
    """Training: IoU above which the worse of two proposals of a level goes."""
    rpn_proposal_min_bbox_size: float = 0.0
    """Training: pixels; a proposal with a shorter side is dropped."""
    rpn_nms_pre: int = 1000
    """Evaluation: as rpn_proposal_nms_pre."""
    rpn_max_num: int = 1000
    """Evaluation: as rpn_proposal_max_num."""
    rpn_nms_thr: float = 0.7
    """Evaluation: as rpn_proposal_nms_thr."""
    rpn_min_bbox_min_size: float = 0.0
    """Evaluation: as rpn_proposal_min_bbox_size."""

    roi_align_out_size: int = 7
    """Bins of a pooled region along each axis."""
    roi_align_sample_num: int = 2
    """Bilinear samples a bin along each axis."""
    roi_align_finest_scale: float = 56.0
    """Pixels; regions of less than twice this scale (square root of the area) are pooled from the stride-4 level,
    of less than four times from the stride-8 level, and so on (FPN, equation 1 with k0 = 4: 224 / 4)."""

    pos_iou_thr_stage2: float = 0.5
    """IoU with a box from which on a proposal is an object."""
    neg_iou_thr_stage2: float = 0.5
    """IoU with every box below which a proposal is background."""
    num_expected_pos_stage2: int = 128
    """Most object proposals an image's box-head loss samples."""
    num_expected_total_stage2: int = 512
    """Proposals an image's box-head loss samples in all."""
    rcnn_fc_out_channels: int = 1024
    """Width of the box head's two hidden layers."""
    rcnn_target_stds: Tuple[float, ...] = (0.1, 0.1, 0.2, 0.2)
    """Scale of the box head's deltas dx, dy, dw, dh."""
    rcnn_loss_cls_weight: float = 1.0
    """Weight of the box head's class loss."""
    rcnn_loss_reg_weight: float = 1.0
    """Weight of the box head's box loss."""
    rcnn_smooth_l1_beta: float = 1.0
    """Where the box head's smooth L1 turns linear, in scaled box deltas."""

    test_score_thr: float = 0.05
    """Least score of a detection."""
    test_iou_thr: float = 0.5
    """IoU above which the worse of two detections of a class goes."""
    test_max_per_img: int = 100
    """Detections an image."""

    keep_ratio: bool = True
    """Whether resizing keeps an image's aspect ratio and pads; False stretches it."""
    flip_ratio: float = 0.5
    """Probability that a training image is mirrored."""
    brightness: float = 0.0
    """Colour jitter of training images: brightness changes by up to this share."""
    contrast: float = 0.0
    """Colour jitter: contrast changes by up to this share."""
    saturation: float = 0.0
    """Colour jitter: saturation changes by up to this share."""
    hue: float = 0.0
    """Colour jitter: hue turns by up to this share of the circle, at most 0.5."""

    def __post_init__(self) -> None:
        take_default_types(self)
        self._check_network()
        self._check_sampling()

    def _check_network(self) -> None:
        one_of("backbone", self.backbone, BACKBONES)
        one_of("stride_in", self.stride_in, STRIDES_IN)
        if self.stride_in == "1x1" and self.backbone in ("resnet18", "resnet34"):
            raise UserError(f"stride_in: found '1x1' with {self.backbone}; expected 3x3, it has no bottlenecks")
        between("freeze_at", self.freeze_at, 0, 5)
        for key in ("width", "fpn_out_channels", "rcnn_fc_out_channels", "roi_align_out_size"):
            at_least(key, getattr(self, key), 1)
        at_least("roi_align_sample_num", self.roi_align_sample_num, 1)
        for key in ("anchor_scales", "anchor_ratios", "rcnn_target_stds"):
            if not getattr(self, key) or min(getattr(self, key)) <= 0:
                raise UserError(f"{key}: found {list(getattr(self, key))}; expected positive numbers")
        if len(self.rcnn_target_stds) != 4:
            raise UserError(f"rcnn_target_stds: found {len(self.rcnn_target_stds)} numbers; expected 4")
        if self.roi_align_finest_scale <= 0:
            raise UserError(f"roi_align_finest_scale: found {self.roi_align_finest_scale}; expected pixels > 0")
        strides = self.anchor_strides
        doubling = all(b == 2 * a for a, b in zip(strides, strides[1:]))
        if not (strides and strides[0] in FINEST_STRIDES and strides[-1] in COARSEST_STRIDES and doubling):
            raise UserError(
                f"anchor_strides: found {list(strides)}; expected powers of two without a gap, from 4 or 8 to 32 or 64"
            )

    def _check_sampling(self) -> None:
        for low, high in (("neg_iou_thr", "pos_iou_thr"), ("neg_iou_thr_stage2", "pos_iou_thr_stage2")):
            if not 0 < getattr(self, low) <= getattr(self, high) <= 1:
                raise UserError(
                    f"{low}: found {getattr(self, low)} with {high} {getattr(self, high)}; "
                    f"expected 0 < {low} <= {high} <= 1"
                )
        if not 0 < self.min_pos_iou <= 1:
            raise UserError(f"min_pos_iou: found {self.min_pos_iou}; expected more than 0 and at most 1")
        for part, whole in (
            ("num_expected_pos", "num_expected_neg"),
            ("num_expected_pos_stage2", "num_expected_total_stage2"),
        ):
            at_least(part, getattr(self, part), 1)
            if getattr(self, part) > getattr(self, whole):
                raise UserError(
                    f"{part}: found {getattr(self, part)}; expected at most {whole} ({getattr(self, whole)}), "
                    "which counts objects and background together"
                )
        for key in ("rpn_proposal_nms_pre", "rpn_proposal_max_num", "rpn_nms_pre", "rpn_max_num", "test_max_per_img"):
            at_least(key, getattr(self, key), 1)
        for key in ("rpn_proposal_nms_thr", "rpn_nms_thr", "test_iou_thr", "test_score_thr", "flip_ratio"):
            between(key, getattr(self, key), 0, 1)
        for key in (
            "rpn_proposal_min_bbox_size",
            "rpn_min_bbox_min_size",
            "rpn_loss_cls_weight",
            "rpn_loss_reg_weight",
            "rcnn_loss_cls_weight",
            "rcnn_loss_reg_weight",
            "rpn_smooth_l1_beta",
            "rcnn_smooth_l1_beta",
            "brightness",
            "contrast",
            "saturation",
            "hue",
        ):
            at_least(key, getattr(self, key), 0)
        if self.hue > 0.5:
            raise UserError(f"hue: found {self.hue}; expected at most 0.5")
