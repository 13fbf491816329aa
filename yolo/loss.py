"""YOLOv5's loss (v6): CIoU of matched boxes, objectness weighted by level, binary cross entropy of classes."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, nn, ops

from yolo.anchors import anchor_table, in_strides
from yolo.ciou import complete_iou
from yolo.settings import STRIDES, Settings
from yolo.targets import CANDIDATES, Targets

BALANCE = (4.0, 1.0, 0.4)
"""Weight of each level's objectness: the finer, the more cells are background."""
LEVELS = len(STRIDES)


class YOLOLoss(nn.Cell):
    """The losses of a batch from the raw outputs of the three levels.

    Args:
        num_classes: C, object classes.
        height, width: pixels of the input, multiples of 32.
        images: N.
        max_boxes: G, boxes that an image is padded to.
    """

    def __init__(
        self, settings: Settings, num_classes: int, height: int, width: int, images: int, max_boxes: int
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.boxes = images * max_boxes
        sizes = [(height // stride, width // stride) for stride in STRIDES]
        anchors = anchor_table(settings)
        self.targets = Targets(anchors, STRIDES, sizes, settings.anchor_t)
        cells = in_strides(anchors)
        self.anchor_width = Tensor(cells[:, :, 0, None, None].copy())  # (levels, A, 1, 1)
        self.anchor_height = Tensor(cells[:, :, 1, None, None].copy())

        a, channels = settings.anchors_per_position, 5 + num_classes
        positions = [rows * columns for rows, columns in sizes]
        planes = images * a
        first = np.cumsum([0, *(planes * count for count in positions[:-1])])
        image = np.repeat(np.arange(images), max_boxes)
        plane = (image * a + np.arange(a)[:, None])[:, None]  # (A, 1, N * G)
        self.first_value = Tensor(np.stack([plane * channels * count for count in positions]).astype(np.int32))
        objectness = [start + plane * count for start, count in zip(first, positions)]
        self.first_objectness = Tensor(np.stack(objectness).astype(np.int32))
        # Objectness has its own way; classes are not asked for where there is one.
        used = [0, 1, 2, 3, *(range(5, channels) if num_classes > 1 else ())]
        self.channel_starts = [Tensor((np.asarray(used) * count)[:, None].astype(np.int32)) for count in positions]
        self.shapes = [(planes, channels, count) for count in positions]
        weights = [np.full(planes * count, b / (planes * count)) for b, count in zip(BALANCE, positions)]
        self.objectness_weight = Tensor(np.concatenate(weights).astype(np.float32))
        self.no_objectness = Tensor(np.zeros(len(self.objectness_weight), np.float32))
        self.class_index = Tensor(np.arange(num_classes, dtype=np.int32).reshape(-1, 1, 1))
        self.negative = 0.5 * settings.label_smoothing
        self.positive = 1 - 0.5 * settings.label_smoothing

        # v6 scales its gains to the number of levels, of classes and of pixels that they were tuned for.
        self.box_gain = settings.box * 3 / LEVELS * images
        self.class_gain = settings.cls * num_classes / 80 * 3 / LEVELS * images
        self.objectness_gain = settings.obj * (max(height, width) / 640) ** 2 * 3 / LEVELS * images

    def construct(
        self, outputs: Tuple[Tensor, Tensor, Tensor], boxes: Tensor, labels: Tensor, valid: Tensor
    ) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return total, box, objectness and class loss, each times N.

        outputs: (N, A * (5 + C), h, w) a level; boxes: (N, G, 4), x1, y1, x2, y2 in pixels; labels: int32 (N, G);
        valid: int32 (N, G), 1 an object; 0, padding, and -1, a crowd region, have no target.
        """
        matched, cell, target = self.targets(boxes, valid)
        mask = matched.astype("float32")
        count = ops.maximum(mask.reshape(LEVELS, -1).sum(1), 1.0)  # a level without a match adds 0
        weight = mask / count.reshape(LEVELS, 1, 1, 1)

        nowhere = ops.zeros_like(cell)
        index = ops.where(matched, cell + self.first_value, nowhere).reshape(LEVELS, 1, -1)
        rows, logits = [], []
        for level in range(LEVELS):
            values = outputs[level].reshape(-1)
            rows.append(ops.gather(values, index[level] + self.channel_starts[level], 0))
            logits.append(outputs[level].reshape(self.shapes[level])[:, 4].reshape(-1))
        rows = ops.concat([row.reshape(row.shape[0], 1, -1) for row in rows], 1)

        overlap = complete_iou(self.decode(rows[:4]), target)
        box = (weight * (1 - overlap)).sum() * self.box_gain

        place = ops.where(matched, cell + self.first_objectness, nowhere).reshape(-1, 1)
        value = ops.stop_gradient(ops.relu(overlap) * mask).reshape(-1)
        wanted = ops.tensor_scatter_max(self.no_objectness, place, value)
        objectness = (self.objectness_weight * cross_entropy(ops.concat(logits), wanted)).sum() * self.objectness_gain

        classes = ops.zeros_like(box)
        if self.num_classes > 1:
            is_class = (labels.reshape(1, 1, -1) == self.class_index).astype("float32")  # (C, 1, N * G)
            wanted = is_class * (self.positive - self.negative) + self.negative
            loss = cross_entropy(rows[4:].reshape(self.num_classes, -1, wanted.shape[2]), wanted)
            mean = loss.sum(0) / self.num_classes
            classes = (mean * weight.reshape(mean.shape)).sum() * self.class_gain
        return box + objectness + classes, box, objectness, classes

    def decode(self, rows: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """From raw x, y, w, h (4, levels, ...) to boxes in cells, relative to their cell's corner."""
        y = ops.sigmoid(rows).reshape(4, LEVELS, -1, CANDIDATES, self.boxes) * 2
        return y[0] - 0.5, y[1] - 0.5, y[2] * y[2] * self.anchor_width, y[3] * y[3] * self.anchor_height


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross entropy of ``logits`` with ``target`` in 0 to 1, elementwise; they broadcast."""
    return ops.softplus(logits) - logits * target
