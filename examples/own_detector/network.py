"""The cells of CenterNet: network, losses and detections. Everything has static shapes and runs as one graph."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Constant

STRIDE = 4
PRIOR = -2.19
"""Logit of 0.1: what the heat map begins with, so that the many empty positions do not drown the first steps."""
MAX_LOG_SIDE = 6.0
"""Clamp before exp(): sides of at most 400 strides."""


def block(inputs: int, outputs: int, stride: int = 1) -> nn.SequentialCell:
    """Return a 3x3 convolution with batch norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, pad_mode="pad", padding=1, weight_init="HeNormal")
    return nn.SequentialCell(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Network(nn.Cell):
    """Heat maps and boxes at stride 4, from features down to stride 16 and back."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        c = channels
        self.num_classes = num_classes
        self.stride4 = nn.SequentialCell(block(3, c, 2), block(c, c, 2), block(c, c))
        self.stride8 = nn.SequentialCell(block(c, 2 * c, 2), block(2 * c, 2 * c))
        self.stride16 = nn.SequentialCell(block(2 * c, 4 * c, 2), block(4 * c, 4 * c))
        self.from16 = block(4 * c, 2 * c)
        self.from8 = block(2 * c, c)
        self.hidden = block(c, c)
        self.heat = nn.Conv2d(c, num_classes, 1, has_bias=True, bias_init=Constant(PRIOR))
        self.box = nn.Conv2d(c, 4, 1, has_bias=True)

    def construct(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        """From uint8 (N, H, W, 3) to heat logits (N, classes, h * w) and boxes (N, h * w, 4).

        A box is its centre's x, y within the position and the logarithm of its width and height, in strides.
        """
        x = (image.astype("float32") / 127.5 - 1).transpose(0, 3, 1, 2)
        fine = self.stride4(x)
        middle = self.stride8(fine)
        middle = add_upsampled(middle, self.from16(self.stride16(middle)))
        x = self.hidden(add_upsampled(fine, self.from8(middle)))
        n = x.shape[0]
        return self.heat(x).reshape(n, self.num_classes, -1), self.box(x).reshape(n, 4, -1).transpose(0, 2, 1)


def add_upsampled(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add ``coarse`` (N, C, H, W), each value repeated 2 x 2, to ``fine`` (N, C, 2 H, 2 W)."""
    n, c, h, w = coarse.shape
    return (fine.reshape(n, c, h, 2, w, 2) + coarse.reshape(n, c, h, 1, w, 1)).reshape(n, c, 2 * h, 2 * w)


def positions(height: int, width: int) -> Tensor:
    """Return float32 (h * w, 2): x and y of each position, in strides."""
    y, x = np.mgrid[: height // STRIDE, : width // STRIDE]
    return Tensor(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32))


def take(values: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, K, C) of ``values`` (N, M, C) that ``index``, int32 (N, K), names in each image."""
    n, m, c = values.shape
    first = Tensor(np.arange(n, dtype=np.int32)[:, None] * m)
    return ops.gather(values.reshape(n * m, c), (index + first).reshape(-1), 0).reshape(n, -1, c)


class TrainingCell(nn.Cell):
    """Penalty-reduced focal loss of the heat maps and L1 loss of the boxes at the objects' centres."""

    def __init__(self, network: Network, height: int, width: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.columns = width // STRIDE
        self.grid = positions(height, width)
        self.last = Tensor(np.array([width // STRIDE - 1, height // STRIDE - 1], np.float32))

    def construct(
        self, image: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor, noise: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor]:
        """Return total, heat and box; the arguments are those of the interface."""
        heat, found = self.network(image)
        is_object = (valid == 1).astype("float32")  # (N, G)
        boxes = boxes / STRIDE
        centre, side = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]  # (N, G, 2)
        cell = ops.minimum(ops.floor(centre), self.last)
        objects = ops.maximum(is_object.sum(), Tensor(np.float32(1)))

        distance = ops.expand_dims(cell, 2) - self.grid  # (N, G, h * w, 2)
        sigma = ops.expand_dims(ops.maximum(side / 6, Tensor(np.float32(0.4))), 2)
        bell = ops.exp(-((distance / sigma) ** 2).sum(-1) / 2) * ops.expand_dims(is_object, -1)  # (N, G, h * w)
        classes = Tensor(np.arange(self.network.num_classes, dtype=np.int32))
        of_class = (ops.expand_dims(labels, -1) == classes).astype("float32")  # (N, G, classes)
        target = (ops.expand_dims(of_class, -1) * ops.expand_dims(bell, 2)).max(axis=1)  # (N, classes, h * w)
        heat_loss = (focal_loss(heat, target) * self.outside_crowds(boxes, valid)).sum() / objects

        index = (cell[..., 1] * self.columns + cell[..., 0]).astype("int32")
        side = ops.log(ops.maximum(side, Tensor(np.float32(0.1))))
        error = ops.abs(take(found, index) - ops.concat((centre - cell, side), -1)).sum(-1)
        box_loss = (error * is_object).sum() / objects
        return heat_loss + box_loss, heat_loss, box_loss

    def outside_crowds(self, boxes: Tensor, valid: Tensor) -> Tensor:
        """Return float32 (N, 1, h * w): 0 in crowd regions, which are neither object nor background."""
        low, high = ops.expand_dims(boxes[..., :2], 2), ops.expand_dims(boxes[..., 2:], 2)
        inside = ops.logical_and(self.grid + 0.5 > low, self.grid + 0.5 < high).astype("float32")  # (N, G, h * w, 2)
        inside = inside[..., 0] * inside[..., 1] * ops.expand_dims((valid == -1).astype("float32"), -1)
        return 1 - inside.max(axis=1, keepdims=True)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Zhou et al. 2019, equation 1: per position, for a target that is 1 at objects' centres and falls around them."""
    p = ops.clamp(ops.sigmoid(logits), 1e-4, 1 - 1e-4)
    is_centre = (target == 1).astype("float32")
    return -is_centre * (1 - p) ** 2 * ops.log(p) - (1 - target) ** 4 * p**2 * ops.log(1 - p)


class DetectionCell(nn.Cell):
    """The best peaks of the heat maps; they need no suppression."""

    def __init__(self, network: Network, height: int, width: int, images: int, most: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.shape = (images, network.num_classes, height // STRIDE, width // STRIDE)
        self.most = min(most, network.num_classes * self.shape[2] * self.shape[3])
        self.pool = nn.MaxPool2d(3, 1, pad_mode="same")
        self.grid = positions(height, width)
        self.limit = Tensor(np.array([width, height, width, height], np.float32))

    def construct(self, image: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """From uint8 (N, H, W, 3) to scores (N, K) falling, labels (N, K) and boxes (N, K, 4) in pixels."""
        heat, found = self.network(image)
        heat = ops.sigmoid(heat).reshape(self.shape)
        peaks = heat * (self.pool(heat) == heat).astype("float32")
        scores, index = ops.topk(peaks.reshape(self.shape[0], -1), self.most)
        index = index.astype("float32")  # exact below 2**24; ONNX export has no division of integers
        label = ops.floor(index / self.grid.shape[0])
        index = (index - label * self.grid.shape[0]).astype("int32")
        found = take(found, index)
        centre = ops.gather(self.grid, index, 0) + found[..., :2]
        half = ops.exp(ops.minimum(found[..., 2:], Tensor(np.float32(MAX_LOG_SIDE)))) / 2
        boxes = ops.concat((centre - half, centre + half), -1) * STRIDE
        return scores, label.astype("int32"), ops.minimum(ops.relu(boxes), self.limit)
