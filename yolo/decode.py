"""From the network's raw output to scored boxes, before suppression."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, nn, ops

from yolo.network import YOLOv5Network
from yolo.settings import STRIDES, Settings


class DetectionCell(nn.Cell):
    """Scores and boxes of every anchor at every position."""

    def __init__(self, network: YOLOv5Network, settings: Settings, height: int, width: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.anchors_per_position = settings.anchors_per_position
        self.grids, self.priors = [], []
        for level, stride in zip(settings.anchors, STRIDES):
            y, x = np.mgrid[: height // stride, : width // stride].reshape(2, 1, 1, -1)
            grid = np.concatenate([x, y], 1)  # (1, 2, h * w)
            self.grids.append(Tensor((grid - 0.5).astype(np.float32)[None]))
            self.priors.append(Tensor(np.float32(level).reshape(1, -1, 2, 1)))

    def construct(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """From uint8 (N, H, W, 3) to scores (N, R, classes) and boxes (N, R, 4), x1, y1, x2, y2 in pixels."""
        scores, boxes = (), ()
        outputs = self.network(image)
        for level in range(len(STRIDES)):
            output = outputs[level]
            n, channels, h, w = output.shape
            a = self.anchors_per_position
            p = ops.sigmoid(output.reshape(n, a, channels // a, h * w))
            centre = (p[:, :, :2] * 2 + self.grids[level]) * STRIDES[level]
            half = p[:, :, 2:4] * p[:, :, 2:4] * (self.priors[level] * 2)  # (2 p)^2 * anchor / 2
            box = ops.concat((centre - half, centre + half), 2)  # (N, A, 4, h * w)
            score = p[:, :, 4:5] * p[:, :, 5:]
            boxes += (box.transpose(0, 1, 3, 2).reshape(n, a * h * w, 4),)
            scores += (score.transpose(0, 1, 3, 2).reshape(n, a * h * w, channels // a - 5),)
        return ops.concat(scores, 1), ops.concat(boxes, 1)
