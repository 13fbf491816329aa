"""Faster R-CNN with a feature pyramid: the parts put together for training and for detection."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, nn, ops

from faster_rcnn.anchors import level_sizes, make_anchors
from faster_rcnn.box_coding import decode, encode
from faster_rcnn.box_head import BoxHead
from faster_rcnn.fpn import FeaturePyramid
from faster_rcnn.losses import box_loss, class_loss, count, objectness_loss
from faster_rcnn.matcher import match
from faster_rcnn.proposals import Proposals
from faster_rcnn.resnet import FirstParts, ResNet
from faster_rcnn.roi_align import ROIAlign
from faster_rcnn.rpn import RPNHead
from faster_rcnn.sampler import sample, take
from faster_rcnn.settings import CUTS, Settings, stage_channels

MEAN = (123.675, 116.28, 103.53)
"""ImageNet's mean RGB, of 255."""
STD = (58.395, 57.12, 57.375)
"""ImageNet's standard deviation of RGB, of 255."""


def check_cut(cut: str) -> None:
    """Refuse a cut at which one tensor is not enough."""
    if cut not in CUTS:
        raise ValueError(f"cut: expected one of {CUTS}")


class Normalise(nn.Cell):
    """Images as published backbones take them."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = Tensor(np.asarray(MEAN, np.float32))
        self.scale = Tensor(1 / np.asarray(STD, np.float32))

    def construct(self, image: Tensor) -> Tensor:
        """From uint8 RGB (N, H, W, 3) to float32 (N, 3, H, W)."""
        return ((image.astype("float32") - self.mean) * self.scale).transpose(0, 3, 1, 2)


class FasterRCNNNetwork(nn.Cell):
    """The parameters: backbone, pyramid, RPN head and box head; construct gives pyramid and RPN output."""

    def __init__(self, settings: Settings, num_classes: int) -> None:
        super().__init__()
        norm = "batch" if settings.neck_norm else ""
        strides = settings.anchor_strides
        self.first_stage = 0 if strides[0] == 4 else 1
        channels = stage_channels(settings.backbone, settings.width)[self.first_stage :]
        self.normalise = Normalise()
        self.backbone = ResNet(
            settings.backbone,
            settings.width,
            settings.freeze_at,
            settings.frozen_batch_norm,
            settings.stride_in,
        )
        self.fpn = FeaturePyramid(channels, settings.fpn_out_channels, strides[-1] == 64, norm)
        anchors = len(settings.anchor_scales) * len(settings.anchor_ratios)
        self.rpn = RPNHead(settings.fpn_out_channels, anchors, norm)
        values = settings.roi_align_out_size**2 * settings.fpn_out_channels
        self.box_head = BoxHead(values, settings.rcnn_fc_out_channels, num_classes, norm)

    def construct(self, image: Tensor) -> Tuple[Tuple[Tensor, ...], Tensor, Tensor]:
        """From uint8 RGB (N, H, W, 3) to the levels (N, C, h, w), logits (N, K) and deltas (N, K, 4)."""
        return self.from_stages(self.backbone(self.normalise(image)))

    def forward_to(self, image: Tensor, cut: str) -> Tensor:
        """Return the output of the backbone's part ``cut``, one of CUTS: (N, C, H / 4, W / 4)."""
        check_cut(cut)
        return self.backbone.forward_to(self.normalise(image), cut)

    def forward_from(self, tensor: Tensor, cut: str) -> Tuple[Tuple[Tensor, ...], Tensor, Tensor]:
        """Return what ``construct`` gives from the output of the backbone's part ``cut``."""
        check_cut(cut)
        return self.from_stages(self.backbone.forward_from(tensor, cut))

    def from_stages(self, stages: Tuple[Tensor, ...]) -> Tuple[Tuple[Tensor, ...], Tensor, Tensor]:
        """From the backbone's four stages to levels, logits and deltas."""
        levels = self.fpn(stages[self.first_stage :])
        logits, deltas = self.rpn(levels)
        return levels, logits, deltas


class EdgeNetwork(nn.Cell):
    """The part of a :class:`FasterRCNNNetwork` before ``cut`` alone, its tensors under their names there."""

    def __init__(self, settings: Settings, cut: str) -> None:
        super().__init__()
        check_cut(cut)
        s = settings
        self.cut = cut
        self.normalise = Normalise()
        self.backbone = FirstParts(
            s.backbone, s.width, s.freeze_at, s.frozen_batch_norm, s.stride_in, parts=1 + CUTS.index(cut)
        )

    def construct(self, image: Tensor) -> Tensor:
        """From uint8 RGB (N, H, W, 3) to (N, C, H / 4, W / 4)."""
        return self.backbone.forward_to(self.normalise(image), self.cut)


class TrainingCell(nn.Cell):
    """The losses of a batch; a pure function of its inputs and the parameters (batch norm's statistics aside)."""

    def __init__(
        self, network: FasterRCNNNetwork, settings: Settings, height: int, width: int, images: int, max_boxes: int
    ) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.settings = settings
        anchors = make_anchors(height, width, settings.anchor_strides, settings.anchor_scales, settings.anchor_ratios)
        self.anchors = Tensor(np.concatenate(anchors)[None])  # (1, K, 4)
        self.num_anchors = self.anchors.shape[1]
        self.proposals = Proposals(
            anchors,
            height,
            width,
            settings.rpn_proposal_nms_pre,
            settings.rpn_proposal_max_num,
            settings.rpn_proposal_nms_thr,
            settings.rpn_proposal_min_bbox_size,
        )
        self.rpn_total = min(settings.num_expected_neg, self.num_anchors)
        self.rpn_positive = min(settings.num_expected_pos, self.rpn_total)
        self.roi_total = min(settings.num_expected_total_stage2, self.proposals.max_num + max_boxes)
        self.roi_positive = min(settings.num_expected_pos_stage2, self.roi_total)
        self.roi_align = make_roi_align(settings, height, width, images, self.roi_total)

    def construct(
        self, image: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, noise: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return total, rpn_cls, rpn_reg, rcnn_cls and rcnn_reg; the arguments are those of the interface."""
        s = self.settings
        levels, logits, deltas = self.network(image)
        rpn_cls, rpn_reg = self.rpn_losses(logits, deltas, boxes, valid, noise[:, : self.num_anchors])
        regions, is_proposal = self.proposals(logits, deltas)
        rcnn_cls, rcnn_reg = self.rcnn_losses(
            levels, regions, is_proposal, boxes, labels, valid, noise[:, self.num_anchors :]
        )
        rpn_cls, rpn_reg = rpn_cls * s.rpn_loss_cls_weight, rpn_reg * s.rpn_loss_reg_weight
        rcnn_cls, rcnn_reg = rcnn_cls * s.rcnn_loss_cls_weight, rcnn_reg * s.rcnn_loss_reg_weight
        return rpn_cls + rpn_reg + rcnn_cls + rcnn_reg, rpn_cls, rpn_reg, rcnn_cls, rcnn_reg

    def rpn_losses(
        self, logits: Tensor, deltas: Tensor, boxes: Tensor, valid: Tensor, noise: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Objectness and box loss of sampled anchors."""
        s = self.settings
        matched, positive, negative = match(boxes, valid, self.anchors, s.pos_iou_thr, s.neg_iou_thr, s.min_pos_iou)
        index, is_positive, is_used = sample(positive, negative, noise, self.rpn_positive, self.rpn_total)
        cls = objectness_loss(take(logits, index), is_positive, is_used)
        index, is_positive = index[:, : self.rpn_positive], is_positive[:, : self.rpn_positive]
        references = ops.gather(self.anchors[0], index, 0)
        targets = encode(take(boxes, take(matched, index)), references)
        reg = box_loss(take(deltas, index), targets, is_positive, count(is_used), s.rpn_smooth_l1_beta)
        return cls, reg

    def rcnn_losses(
        self,
        levels: Tuple[Tensor, ...],
        regions: Tensor,
        is_proposal: Tensor,
        boxes: Tensor,
        labels: Tensor,
        valid: Tensor,
        noise: Tensor,
    ) -> Tuple[Tensor, Tensor]:
        """Class and box loss of sampled proposals; the ground-truth boxes are among the candidates."""
        s = self.settings
        regions, label, targets, is_positive, is_used = self.box_targets(
            regions, is_proposal, boxes, labels, valid, noise
        )
        logits, deltas = self.network.box_head(self.roi_align(levels[: self.roi_align.levels], regions))
        cls = class_loss(logits, label.reshape(-1), is_used.reshape(-1))

        p = self.roi_positive  # the positives stand first
        n = regions.shape[0]
        deltas = deltas.reshape(n, self.roi_total, -1, 4)[:, :p].reshape(n * p, -1, 4)
        own_class = ops.relu(label[:, :p].reshape(-1, 1) - 1)
        deltas = take(deltas, own_class)[:, 0]  # (N * p, 4)
        targets = targets.reshape(-1, 4)
        reg = box_loss(deltas, targets, is_positive[:, :p].reshape(-1), count(is_used), s.rcnn_smooth_l1_beta)
        return cls, reg

    def box_targets(
        self, regions: Tensor, is_proposal: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, noise: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Sample regions for the box head, from proposals (N, P, 4) and the ground-truth boxes (N, G, 4).

        Returns:
            regions: float32 (N, R, 4), those with an object first.
            label: int32 (N, R), 0 background.
            targets: float32 (N, most positives, 4), deltas of the first regions' objects.
            is_positive, is_used: bool (N, R).
        """
        s = self.settings
        regions = ops.concat((regions, boxes), 1)  # (N, P + G, 4)
        exists = ops.concat((is_proposal, valid == 1), 1)
        matched, positive, negative = match(boxes, valid, regions, s.pos_iou_thr_stage2, s.neg_iou_thr_stage2)
        positive, negative = ops.logical_and(positive, exists), ops.logical_and(negative, exists)
        index, is_positive, is_used = sample(positive, negative, noise, self.roi_positive, self.roi_total)
        regions = take(regions, index)
        matched = take(matched, index)
        label = ops.where(is_positive, take(labels, matched) + 1, Tensor(np.int32(0)))
        p = self.roi_positive
        targets = encode(take(boxes, matched[:, :p]), regions[:, :p], s.rcnn_target_stds)
        return regions, label, targets, is_positive, is_used


class DetectionCell(nn.Cell):
    """Scored, decoded boxes of a batch, before suppression."""

    def __init__(self, network: FasterRCNNNetwork, settings: Settings, height: int, width: int, images: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.height, self.width, self.stds = height, width, settings.rcnn_target_stds
        anchors = make_anchors(height, width, settings.anchor_strides, settings.anchor_scales, settings.anchor_ratios)
        self.proposals = Proposals(
            anchors,
            height,
            width,
            settings.rpn_nms_pre,
            settings.rpn_max_num,
            settings.rpn_nms_thr,
            settings.rpn_min_bbox_min_size,
        )
        self.roi_align = make_roi_align(settings, height, width, images, self.proposals.max_num)

    def construct(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """From uint8 (N, H, W, 3) to scores (N, R, classes), 0 where there is no proposal, and boxes (..., 4)."""
        levels, logits, deltas = self.network(image)
        regions, is_proposal = self.proposals(logits, deltas)
        n, r = is_proposal.shape
        logits, deltas = self.network.box_head(self.roi_align(levels[: self.roi_align.levels], regions))
        scores = ops.softmax(logits, -1)[:, 1:].reshape(n, r, -1) * is_proposal.astype("float32").reshape(n, r, 1)
        boxes = decode(deltas.reshape(n, r, -1, 4), ops.expand_dims(regions, 2), self.height, self.width, self.stds)
        return scores, boxes


def make_roi_align(settings: Settings, height: int, width: int, images: int, regions: int) -> ROIAlign:
    """Return ROIAlign over the levels up to stride 32; the level of stride 64 only proposes."""
    strides = [stride for stride in settings.anchor_strides if stride <= 32]
    return ROIAlign(
        level_sizes(height, width, strides),
        strides,
        images,
        regions,
        settings.roi_align_out_size,
        settings.roi_align_sample_num,
        settings.roi_align_finest_scale,
    )
