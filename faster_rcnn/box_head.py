"""The two-layer box head (Lin et al. 2017, section 4.2)."""

from __future__ import annotations

from typing import Tuple

from mindspore import Tensor, nn, ops
from mindspore.common.initializer import HeUniform, Normal


class BoxHead(nn.Cell):
    """Class logits and class-wise box deltas of pooled regions; class 0 is background.

    The first layer reads a region's values in the order y, x, channel.
    """

    def __init__(self, in_values: int, hidden: int, num_classes: int, norm: str = "") -> None:
        super().__init__()
        init = HeUniform(negative_slope=1)
        self.num_classes = num_classes
        self.fc1 = nn.Dense(in_values, hidden, weight_init=init, bias_init="zeros")
        self.fc2 = nn.Dense(hidden, hidden, weight_init=init, bias_init="zeros")
        self.normed = norm == "batch"
        if self.normed:
            self.norm1 = nn.BatchNorm1d(hidden)
            self.norm2 = nn.BatchNorm1d(hidden)
        # Scaled with the width: at a fixed 0.01 a narrow head passes hardly any gradient on at first.
        std = hidden**-0.5
        self.cls = nn.Dense(hidden, num_classes + 1, weight_init=Normal(std), bias_init="zeros")
        self.bbox = nn.Dense(hidden, 4 * num_classes, weight_init=Normal(std / 10), bias_init="zeros")

    def construct(self, regions: Tensor) -> Tuple[Tensor, Tensor]:
        """From (R, bins, bins, C) to logits (R, 1 + classes) and deltas (R, classes, 4)."""
        x = self.fc1(regions.reshape(regions.shape[0], -1))
        x = ops.relu(self.norm1(x) if self.normed else x)
        x = self.fc2(x)
        x = ops.relu(self.norm2(x) if self.normed else x)
        return self.cls(x), self.bbox(x).reshape(-1, self.num_classes, 4)
