"""YOLOv5 behind the interface through which the federation trains and evaluates a detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, List, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data import transforms
from cross_silo.detection.predictor import make_predictor
from cross_silo.detection.settings import check_size
from cross_silo.detection.suppression import detections
from yolo.names import map_pretrained
from yolo.settings import CUTS, STRIDES, Settings
from yolo.specification import CUT_STRIDES, output_channels

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detections, InputSize, Predictor

MAX_CANDIDATES = 30000
"""Best scores of an image that enter suppression, as release 6 limits them."""


class YOLOv5:
    """See :class:`cross_silo.detector.Detector` for what each member means."""

    tag: ClassVar[str] = "yolov5"
    settings_type: ClassVar[type] = Settings
    loss_names: ClassVar[Tuple[str, ...]] = ("box", "obj", "cls")
    export_names: ClassVar[Tuple[str, ...]] = ("scores", "boxes")
    noise_size: ClassVar[int] = 0
    legal_cuts: ClassVar[Tuple[int, ...]] = CUTS

    def __init__(self, settings: Settings, size: "InputSize") -> None:
        check_size(size, STRIDES[-1])
        self.settings = settings
        self.size = size

    def build_network(self) -> "nn.Cell":
        """Return the network, newly initialised."""
        from yolo.network import YOLOv5Network

        return YOLOv5Network(self.settings, self.size.num_classes)

    def training_cell(self, network: "nn.Cell") -> "nn.Cell":
        """Return the cell of the losses, in training mode."""
        from yolo.loss import YOLOLoss
        from yolo.network import TrainingCell

        s = self.size
        loss = YOLOLoss(self.settings, s.num_classes, s.height, s.width, s.batch_size, s.max_boxes)
        return TrainingCell(network, loss).set_train()

    def feature_shape(self, cut: int) -> Tuple[int, int, int]:
        """Return channels, height and width of an image's tensor after the first ``cut`` layers."""
        stride = CUT_STRIDES[cut - 1]
        return output_channels(self.settings, cut - 1), self.size.height // stride, self.size.width // stride

    def is_before(self, name: str, cut: int) -> bool:
        """Tell whether the tensor ``name`` belongs to the first ``cut`` layers."""
        return int(name.split(".")[1]) < cut

    def edge_network(self, cut: int) -> "nn.Cell":
        """Return the first ``cut`` layers alone."""
        from yolo.network import EdgeNetwork

        return EdgeNetwork(self.settings, cut)

    def export_cell(self, network: "nn.Cell", images: int, file_format: str = "") -> "nn.Cell":
        """Return the cell from ``images`` images to scores and boxes of every anchor, the same for every format."""
        from yolo.decode import DetectionCell

        return DetectionCell(network, self.settings, self.size.height, self.size.width)

    def export_detections(self, outputs: "Sequence[np.ndarray]") -> "List[Detections]":
        """Suppress what overlaps, class by class."""
        s = self.settings
        return [
            detections(score, box, s.conf_thres, s.iou_thres, s.max_det, MAX_CANDIDATES) for score, box in zip(*outputs)
        ]

    def predictor(self, network: "nn.Cell") -> "Predictor":
        """Return the function that detects; it leaves the network's training flag as it was."""
        return make_predictor(self.export_cell(network, self.size.eval_batch_size), network, self.export_detections)

    def train_transforms(self) -> "Sequence[transforms.Transform]":
        """Mosaic, random affine map, colours and flips, as release 6 orders them."""
        s, size = self.settings, (self.size.height, self.size.width)
        return [
            transforms.Mosaic(*size, s.mosaic),
            transforms.RandomAffine(*size, s.degrees, s.translate, s.scale, s.shear),
            transforms.HSVJitter(s.hsv_h, s.hsv_s, s.hsv_v),
            transforms.VerticalFlip(s.flipud),
            transforms.HorizontalFlip(s.fliplr),
        ]

    def eval_transforms(self) -> "Sequence[transforms.Transform]":
        """Resize and pad on both sides."""
        return [transforms.Letterbox(self.size.height, self.size.width)]

    def map_pretrained(self, name: str) -> Optional[str]:
        """Map names of this network, of the published YOLOv5 in PyTorch and of mindyolo's YOLOv5."""
        return map_pretrained(name)
