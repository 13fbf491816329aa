"""ResNet without its classifier (He et al. 2016, Deep Residual Learning for Image Recognition, table 1)."""

from __future__ import annotations

from typing import Tuple

from mindspore import Tensor, nn, ops

from faster_rcnn.layers import Conv
from faster_rcnn.settings import LAYER1, STEM, has_bottlenecks, stage_channels

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}


class BasicBlock(nn.Cell):
    """Two 3x3 convolutions around which the input is added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str, stride_in: str) -> None:
        super().__init__()
        del stride_in  # it has no 1x1 convolution
        self.conv1 = Conv(in_channels, out_channels, 3, stride, norm)
        self.conv2 = Conv(out_channels, out_channels, 3, 1, norm)
        self.projects = stride != 1 or in_channels != out_channels
        if self.projects:
            self.downsample = Conv(in_channels, out_channels, 1, stride, norm)

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H / stride, W / stride)."""
        out = self.conv2(ops.relu(self.conv1(x)))
        return ops.relu(out + (self.downsample(x) if self.projects else x))


class Bottleneck(nn.Cell):
    """1x1, 3x3 and 1x1 convolutions around which the input is added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str, stride_in: str) -> None:
        super().__init__()
        middle = out_channels // 4
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = Conv(in_channels, middle, 1, first, norm)
        self.conv2 = Conv(middle, middle, 3, second, norm)
        self.conv3 = Conv(middle, out_channels, 1, 1, norm)
        self.projects = stride != 1 or in_channels != out_channels
        if self.projects:
            self.downsample = Conv(in_channels, out_channels, 1, stride, norm)

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H / stride, W / stride)."""
        out = self.conv3(ops.relu(self.conv2(ops.relu(self.conv1(x)))))
        return ops.relu(out + (self.downsample(x) if self.projects else x))


class FirstParts(nn.Cell):
    """The stem and, where ``parts`` is 2, layer1.

    ``freeze_at`` parts of the whole ResNet have their batch norm frozen (1: the stem, 2: and layer1, ...); with
    ``frozen_batch_norm`` all of them have.
    """

    def __init__(
        self,
        backbone: str,
        width: int = 64,
        freeze_at: int = 0,
        frozen_batch_norm: bool = False,
        stride_in: str = "3x3",
        parts: int = 2,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.norms = ["frozen" if frozen_batch_norm or part < freeze_at else "batch" for part in range(5)]
        self.stride_in = stride_in
        self.channels = (width, *stage_channels(backbone, width))
        self.conv1 = Conv(3, width, 7, 2, self.norms[0])
        # The input of the pool is at least 0, so that padding with zeros is padding with minus infinity; its size
        # is even, so that the last row and column of a padding all round would never be read.
        self.pad = ops.Pad(((0, 0), (0, 0), (1, 0), (1, 0)))
        self.pool = ops.MaxPool(3, 2, "valid")
        if parts == 2:
            self.layer1 = self.make_stage(0)

    def make_stage(self, stage: int) -> nn.SequentialCell:
        """Return layer ``stage`` + 1."""
        block = Bottleneck if has_bottlenecks(self.backbone) else BasicBlock
        cells = []
        in_channels, out_channels = self.channels[stage : stage + 2]
        for index in range(BLOCKS[self.backbone][stage]):
            stride = 2 if stage > 0 and index == 0 else 1
            cells.append(block(in_channels, out_channels, stride, self.norms[stage + 1], self.stride_in))
            in_channels = out_channels
        return nn.SequentialCell(*cells)

    def stem(self, x: Tensor) -> Tensor:
        """From images (N, 3, H, W) to (N, width, H / 4, W / 4)."""
        return self.pool(self.pad(ops.relu(self.conv1(x))))

    def forward_to(self, x: Tensor, cut: str) -> Tensor:
        """From images (N, 3, H, W) to the output of the part ``cut``, (N, C, H / 4, W / 4)."""
        stem = self.stem(x)
        return stem if cut == STEM else self.layer1(stem)


class ResNet(FirstParts):
    """The four stages' outputs, at strides 4, 8, 16 and 32. ``freeze_at`` parts do not train."""

    def __init__(
        self,
        backbone: str,
        width: int = 64,
        freeze_at: int = 0,
        frozen_batch_norm: bool = False,
        stride_in: str = "3x3",
    ) -> None:
        super().__init__(backbone, width, freeze_at, frozen_batch_norm, stride_in)
        self.freeze_at = freeze_at
        self.layer2, self.layer3, self.layer4 = (self.make_stage(stage) for stage in (1, 2, 3))
        for part in (self.conv1, self.layer1, self.layer2, self.layer3, self.layer4)[:freeze_at]:
            for parameter in part.get_parameters():
                parameter.requires_grad = False

    def construct(self, x: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """From images (N, 3, H, W), H and W multiples of 32, to four (N, C, H / stride, W / stride)."""
        return self.forward_from(self.stem(x), STEM)

    def forward_from(self, x: Tensor, cut: str) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
        """From the output of the part ``cut`` to the four stages'."""
        c2 = x if cut == LAYER1 else self.layer1(ops.stop_gradient(x) if self.freeze_at == 1 else x)
        c3 = self.layer2(ops.stop_gradient(c2) if self.freeze_at == 2 else c2)
        c4 = self.layer3(ops.stop_gradient(c3) if self.freeze_at == 3 else c3)
        c5 = self.layer4(ops.stop_gradient(c4) if self.freeze_at == 4 else c4)
        return c2, c3, c4, c5
