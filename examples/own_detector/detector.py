"""CenterNet (Zhou et al. 2019, Objects as Points) behind the interface of cross_silo/detector.py.

This module is imported without MindSpore, by the server too; the network is imported where it is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, List, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.transforms import HorizontalFlip, ResizeAndPad, Transform

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detections, InputSize, Predictor

COARSEST_STRIDE = 16


@dataclass(frozen=True)
class Settings:
    """The detector's own keys of the model YAML."""

    channels: int = 32
    """Channels at stride 4; twice and four times as many at strides 8 and 16."""
    flip_ratio: float = 0.5
    """Probability that a training image is mirrored."""
    score_thr: float = 0.05
    """Least score of a detection."""
    max_per_img: int = 50
    """Detections an image."""

    def __post_init__(self) -> None:
        for key in ("channels", "max_per_img"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}, expected at least 1")


class CenterNet:
    """An object is the peak of its class's heat map; its box is regressed there."""

    tag: ClassVar[str] = "center-net"
    settings_type: ClassVar[type] = Settings
    loss_names: ClassVar[Tuple[str, ...]] = ("heat", "box")
    noise_size: ClassVar[int] = 0
    export_names: ClassVar[Tuple[str, ...]] = ("scores", "labels", "boxes")

    def __init__(self, settings: Settings, size: "InputSize") -> None:
        for key, pixels in (("img_height", size.height), ("img_width", size.width)):
            if pixels % COARSEST_STRIDE:
                raise ValueError(f"{key} is {pixels}, expected a multiple of {COARSEST_STRIDE}")
        self.settings = settings
        self.size = size

    def build_network(self) -> "nn.Cell":
        """Return the network, newly initialised."""
        from own_detector.network import Network

        return Network(self.settings.channels, self.size.num_classes)

    def training_cell(self, network: "nn.Cell") -> "nn.Cell":
        """Return the cell of the losses."""
        from own_detector.network import TrainingCell

        return TrainingCell(network, self.size.height, self.size.width).set_train()

    def export_cell(self, network: "nn.Cell", images: int, file_format: str = "") -> "nn.Cell":
        """Return the cell from images to scores, labels and boxes, the same for every format."""
        from own_detector.network import DetectionCell

        return DetectionCell(network, self.size.height, self.size.width, images, self.settings.max_per_img)

    def export_detections(self, outputs: Sequence[np.ndarray]) -> "List[Detections]":
        """Drop what scores too little."""
        found = []
        for scores, labels, boxes in zip(*outputs):
            kept = scores > self.settings.score_thr
            found.append((boxes[kept], scores[kept], labels[kept].astype(np.int32)))
        return found

    def predictor(self, network: "nn.Cell") -> "Predictor":
        """Return the function that detects; it leaves the network's training flag as it was."""
        from mindspore import Tensor

        cell = self.export_cell(network, self.size.eval_batch_size)

        def predict(images: np.ndarray) -> "List[Detections]":
            training = network.training
            cell.set_train(False)
            outputs = [output.asnumpy() for output in cell(Tensor(images))]
            network.set_train(training)
            return self.export_detections(outputs)

        return predict

    def train_transforms(self) -> Sequence[Transform]:
        """Resize, pad and mirror."""
        return [*self.eval_transforms(), HorizontalFlip(self.settings.flip_ratio)]

    def eval_transforms(self) -> Sequence[Transform]:
        """Resize and pad."""
        return [ResizeAndPad(self.size.height, self.size.width)]

    def map_pretrained(self, name: str) -> Optional[str]:
        """A checkpoint of this detector alone fills it."""
        return name
