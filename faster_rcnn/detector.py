"""Faster R-CNN behind the interface through which the federation trains and evaluates a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, ClassVar, List, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data import transforms
from cross_silo.detection.predictor import make_predictor
from cross_silo.detection.settings import check_size
from cross_silo.detection.suppression import detections
from faster_rcnn.anchors import level_sizes
from faster_rcnn.names import from_torchvision, map_pretrained
from faster_rcnn.settings import CUT_STRIDE, CUTS, LAYER1, Settings, stage_channels

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import InputSize

COARSEST_STAGE = 32


class FasterRCNN:
    """See :class:`cross_silo.detector.Detector` for what each member means."""

    tag: ClassVar[str] = "fast-rcnn"
    settings_type: ClassVar[type] = Settings
    loss_names: ClassVar[Tuple[str, ...]] = ("rpn_cls", "rpn_reg", "rcnn_cls", "rcnn_reg")
    export_names: ClassVar[Tuple[str, ...]] = ("scores", "boxes")
    legal_cuts: ClassVar[Tuple[str, ...]] = CUTS

    def __init__(self, settings: Settings, size: "InputSize") -> None:
        check_size(size, COARSEST_STAGE)
        self.settings = settings
        self.size = size

    @property
    def noise_size(self) -> int:
        """One number an anchor and one a candidate of the box head: proposals and ground-truth boxes."""
        s = self.settings
        per_position = len(s.anchor_scales) * len(s.anchor_ratios)
        anchors = [h * w * per_position for h, w in level_sizes(self.size.height, self.size.width, s.anchor_strides)]
        proposals = min(s.rpn_proposal_max_num, sum(min(s.rpn_proposal_nms_pre, count) for count in anchors))
        return sum(anchors) + proposals + self.size.max_boxes

    def build_network(self) -> "nn.Cell":
        """Return the network, newly initialised."""
        from faster_rcnn.network import FasterRCNNNetwork

        return FasterRCNNNetwork(self.settings, self.size.num_classes)

    def training_cell(self, network: "nn.Cell") -> "nn.Cell":
        """Return the cell of the losses, in training mode."""
        from faster_rcnn.network import TrainingCell

        size = self.size
        cell = TrainingCell(network, self.settings, size.height, size.width, size.batch_size, size.max_boxes)
        return cell.set_train()

    def feature_shape(self, cut: str) -> Tuple[int, int, int]:
        """Return channels, height and width of an image's tensor after the backbone's part ``cut``."""
        width = self.settings.width
        channels = stage_channels(self.settings.backbone, width)[0] if cut == LAYER1 else width
        return channels, self.size.height // CUT_STRIDE, self.size.width // CUT_STRIDE

    def is_before(self, name: str, cut: str) -> bool:
        """Tell whether the tensor ``name`` belongs to the stem or, with ``cut`` layer1, to that."""
        parts = ("backbone.conv1.", "backbone.layer1.")[: 1 + CUTS.index(cut)]
        return name.startswith(parts)

    def edge_network(self, cut: str) -> "nn.Cell":
        """Return the part before ``cut`` alone."""
        from faster_rcnn.network import EdgeNetwork

        return EdgeNetwork(self.settings, cut)

    def export_cell(self, network: "nn.Cell", images: int, file_format: str = "") -> "nn.Cell":
        """Return the cell from ``images`` images to scores and boxes of every proposal and class."""
        from faster_rcnn.network import DetectionCell

        cell = DetectionCell(network, self.settings, self.size.height, self.size.width, images)
        if file_format == "onnx":
            from faster_rcnn.gather_product import without_sparse_product

            without_sparse_product(cell.roi_align)
        return cell

    def export_detections(self, outputs: "Sequence[np.ndarray]") -> "List[Tuple[np.ndarray, ...]]":
        """Suppress what overlaps, class by class."""
        s = self.settings
        return [
            detections(score, box, s.test_score_thr, s.test_iou_thr, s.test_max_per_img) for score, box in zip(*outputs)
        ]

    def predictor(self, network: "nn.Cell") -> "Callable[[np.ndarray], List[Tuple[np.ndarray, ...]]]":
        """Return the function that detects; it leaves the network's training flag as it was."""
        return make_predictor(self.export_cell(network, self.size.eval_batch_size), network, self.export_detections)

    def train_transforms(self) -> "Sequence[transforms.Transform]":
        """Resize and pad, mirror, and jitter colours where the settings ask for it."""
        s = self.settings
        steps: "List[transforms.Transform]" = [
            transforms.ResizeAndPad(self.size.height, self.size.width, keep_ratio=s.keep_ratio)
        ]
        if s.flip_ratio:
            steps.append(transforms.HorizontalFlip(s.flip_ratio))
        if s.brightness or s.contrast or s.saturation or s.hue:
            steps.append(transforms.ColorJitter(s.brightness, s.contrast, s.saturation, s.hue))
        return steps

    def eval_transforms(self) -> "Sequence[transforms.Transform]":
        """Resize and pad."""
        return [transforms.ResizeAndPad(self.size.height, self.size.width, keep_ratio=self.settings.keep_ratio)]

    def map_pretrained(self, name: str) -> Optional[str]:
        """Map names of a whole model, ours or torchvision's, or of a ResNet of MindSpore, MindCV or torchvision."""
        return map_pretrained(name)

    def pretrained_value(self, name: str, value: np.ndarray) -> np.ndarray:
        """Bring torchvision's layout of the box head and the RPN into ours."""
        return from_torchvision(name, value, self.settings)
