"""The blocks of YOLOv5: convolution with batch norm and SiLU, C3, SPPF, upsampling and the head's convolutions."""

from __future__ import annotations

import math
from typing import Sequence, Tuple

from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeUniform, Uniform, initializer

from yolo.pyramid import PyramidMaxima

EPSILON = 1e-3
MOMENTUM = 0.97
"""Share of the running statistics that a step keeps."""


def conv_weight(out_channels: int, in_channels: int, kernel: int) -> Parameter:
    """Return a convolution's weight, uniform within 1 / sqrt(fan in) of 0."""
    init = HeUniform(negative_slope=math.sqrt(5))
    return Parameter(initializer(init, (out_channels, in_channels, kernel, kernel)), name="weight")


class Convolution(nn.Cell):
    """A convolution without bias; a layer of its own for its parameter's name."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.weight = conv_weight(out_channels, in_channels, kernel)
        self.conv2d = ops.Conv2D(out_channels, (kernel, kernel), pad_mode="pad", pad=kernel // 2, stride=stride)

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H / stride, W / stride)."""
        return self.conv2d(x, self.weight)


class StemConvolution(nn.Cell):
    """The 6x6 convolution of stride 2, padded by 2, on images.

    It is computed as a 3x3 convolution of stride 1 on blocks of 2x2 pixels, which a CPU takes less time for.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.weight = conv_weight(out_channels, 3, 6)
        self.conv2d = ops.Conv2D(out_channels, (3, 3), pad_mode="pad", pad=1)

    def construct(self, image: Tensor) -> Tensor:
        """From uint8 (N, H, W, 3) to float32 (N, out, H / 2, W / 2)."""
        n, h, w, _ = image.shape
        blocks = image.reshape(n, h // 2, 2, w // 2, 2, 3).transpose(0, 5, 2, 4, 1, 3).reshape(n, 12, h // 2, w // 2)
        out = self.weight.shape[0]
        weight = self.weight.reshape(out, 3, 3, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(out, 12, 3, 3)
        return self.conv2d(blocks.astype("float32") * (1 / 255), weight)


class Conv(nn.Cell):
    """Convolution, batch norm and SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, stem: bool = False
    ) -> None:
        super().__init__()
        if stem:
            self.conv = StemConvolution(out_channels)
        else:
            self.conv = Convolution(in_channels, out_channels, kernel, stride)
        self.bn = nn.BatchNorm2d(out_channels, eps=EPSILON, momentum=MOMENTUM)

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H / stride, W / stride)."""
        x = self.bn(self.conv(x))
        return x * ops.sigmoid(x)


class Bottleneck(nn.Cell):
    """1x1 and 3x3 convolution, around which the input is added if ``shortcut``."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels)
        self.cv2 = Conv(channels, channels, 3)
        self.shortcut = shortcut

    def construct(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to the same."""
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C3(nn.Cell):
    """Cross-stage partial block (Wang et al. 2020, CSPNet) with three convolutions and ``depth`` bottlenecks."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.cv1 = Conv(in_channels, hidden)
        self.cv2 = Conv(in_channels, hidden)
        self.cv3 = Conv(2 * hidden, out_channels)
        self.m = nn.SequentialCell(*(Bottleneck(hidden, shortcut) for _ in range(depth)))

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H, W)."""
        return self.cv3(ops.concat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Cell):
    """Spatial pyramid pooling (He et al. 2014) as three 5x5 maxima in a row."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = Conv(in_channels, hidden)
        self.cv2 = Conv(4 * hidden, out_channels)
        self.maxima = PyramidMaxima()

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H, W)."""
        x = self.cv1(x)
        return self.cv2(ops.concat((x, self.maxima(x)), 1))


class Upsample(nn.Cell):
    """Each position becomes 2 x 2; for inference of operators that every export format has."""

    def construct(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, C, 2 H, 2 W)."""
        n, c, h, w = x.shape
        if self.training:
            return ops.interpolate(x, size=(2 * h, 2 * w), mode="nearest")
        x = ops.tile(x.reshape(n, c, h, 1, w, 1), (1, 1, 1, 2, 1, 2))
        return x.reshape(n, c, 2 * h, 2 * w)


class Concat(nn.Cell):
    """Channels beside one another."""

    def construct(self, x: Tuple[Tensor, ...]) -> Tensor:
        """From tensors (N, C_i, H, W) to (N, sum C_i, H, W)."""
        return ops.concat(x, 1)


class Output(nn.Cell):
    """A level's 1x1 convolution with bias, which starts as if objects and classes were rare."""

    def __init__(self, in_channels: int, anchors: int, num_classes: int, stride: int) -> None:
        super().__init__()
        channels = anchors * (5 + num_classes)
        self.weight = conv_weight(channels, in_channels, 1)
        init = initializer(Uniform(1 / math.sqrt(in_channels)), (anchors, 5 + num_classes))
        bias = init.init_data().asnumpy().copy()
        bias[:, 4] += math.log(8 / (640 / stride) ** 2)  # about 8 objects an image of 640 pixels
        bias[:, 5:] += math.log(0.6 / (num_classes - 0.99999))
        self.bias = Parameter(Tensor(bias.reshape(-1)), name="bias")
        self.conv2d = ops.Conv2D(channels, (1, 1))
        self.bias_add = ops.BiasAdd()

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, h, w) to (N, anchors * (5 + classes), h, w)."""
        return self.bias_add(self.conv2d(x, self.weight), self.bias)


class Detect(nn.Cell):
    """The head: a convolution on each of three levels."""

    def __init__(self, in_channels: Sequence[int], strides: Sequence[int], anchors: int, num_classes: int) -> None:
        super().__init__()
        self.m = nn.CellList([Output(c, anchors, num_classes, s) for c, s in zip(in_channels, strides)])

    def construct(self, levels: Tuple[Tensor, Tensor, Tensor]) -> Tuple[Tensor, Tensor, Tensor]:
        """From three levels (N, in, h, w) to three (N, anchors * (5 + classes), h, w)."""
        return self.m[0](levels[0]), self.m[1](levels[1]), self.m[2](levels[2])
