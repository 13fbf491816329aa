"""The region proposal network's head, shared by all levels (Ren et al. 2015, section 3.1)."""

from __future__ import annotations

from typing import List, Tuple

from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, Zero, initializer

from faster_rcnn.layers import Conv


class PointwiseParameters(nn.Cell):
    """Weight and bias of a 1x1 convolution that is run together with another one."""

    def __init__(self, in_channels: int, out_channels: int, std: float) -> None:
        super().__init__()
        self.weight = Parameter(initializer(Normal(std), (out_channels, in_channels, 1, 1)), name="weight")
        self.bias = Parameter(initializer(Zero(), (out_channels,)), name="bias")

    def construct(self) -> Tuple[Tensor, Tensor]:
        """Return weight and bias."""
        return self.weight, self.bias


class RPNHead(nn.Cell):
    """Objectness and box deltas of ``anchors`` anchors at each position of each level."""

    def __init__(self, channels: int, anchors: int, norm: str = "") -> None:
        super().__init__()
        self.anchors = anchors
        self.conv = Conv(channels, channels, 3, norm=norm, init=Normal(0.01) if norm == "" else None)
        std = channels**-0.5  # scaled with the width, as in the box head
        self.cls = PointwiseParameters(channels, anchors, std)
        self.bbox = PointwiseParameters(channels, 4 * anchors, std / 10)
        self.conv2d = ops.Conv2D(5 * anchors, (1, 1))
        self.bias_add = ops.BiasAdd()

    def construct(self, levels: Tuple[Tensor, ...]) -> Tuple[Tensor, Tensor]:
        """From levels (N, C, H, W) to logits (N, K) and deltas (N, K, 4), K over levels, y, x and anchor."""
        cls_weight, cls_bias = self.cls()
        bbox_weight, bbox_bias = self.bbox()
        weight = ops.concat((cls_weight, bbox_weight))
        bias = ops.concat((cls_bias, bbox_bias))
        outputs: List[Tensor] = []
        for level in levels:
            out = self.bias_add(self.conv2d(ops.relu(self.conv(level)), weight), bias)  # (N, 5 A, H, W)
            outputs.append(out.reshape(out.shape[0], out.shape[1], -1))
        out = ops.concat(outputs, 2).transpose(0, 2, 1)  # (N, positions, 5 A)
        n = out.shape[0]
        return out[..., : self.anchors].reshape(n, -1), out[..., self.anchors :].reshape(n, -1, 4)
