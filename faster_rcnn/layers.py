"""Convolution with its norm and bias; a frozen batch norm is folded into the convolution's weight."""

from __future__ import annotations

from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeNormal, Initializer, One, Zero, initializer

EPSILON = 1e-5
"""Added to the variance; the value that published ResNet checkpoints were trained with."""


class FrozenBatchNorm(nn.Cell):
    """Batch norm as the fixed affine map that its statistics and its gain define."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("gamma", One()), ("beta", Zero()), ("moving_mean", Zero()), ("moving_variance", One())):
            setattr(self, name, Parameter(initializer(value, (channels,)), name=name, requires_grad=False))

    def construct(self, weight: Tensor) -> "tuple[Tensor, Tensor]":
        """Fold into a convolution's ``weight`` (out, in, k, k); return the new weight and the bias (out,)."""
        scale = self.gamma / ops.sqrt(self.moving_variance + EPSILON)
        # A broadcasting product would hold 16 bytes of indices a value on CPU as long as the graph lives.
        scales = ops.tile(scale.reshape(-1, 1), (1, weight.size // weight.shape[0])).reshape(weight.shape)
        return weight * ops.stop_gradient(scales), self.beta - self.moving_mean * scale


class Conv(nn.Cell):
    """Convolution, NCHW, padded to keep the size at stride 1; ``norm`` is "batch", "frozen" or "" (a bias)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        norm: str = "",
        init: "Initializer | None" = None,
    ) -> None:
        super().__init__()
        shape = (out_channels, in_channels, kernel, kernel)
        init = init or HeNormal(mode="fan_out", nonlinearity="relu")
        self.weight = Parameter(initializer(init, shape), name="weight")
        self.conv2d = ops.Conv2D(out_channels, (kernel, kernel), pad_mode="pad", pad=kernel // 2, stride=stride)
        self.bias_add = ops.BiasAdd()
        self.frozen = norm == "frozen"
        self.normed = norm == "batch"
        if self.frozen:
            self.norm = FrozenBatchNorm(out_channels)
        elif self.normed:
            self.norm = nn.BatchNorm2d(out_channels, eps=EPSILON)
        else:
            self.bias = Parameter(initializer(Zero(), (out_channels,)), name="bias")

    def construct(self, x: Tensor) -> Tensor:
        """From (N, in, H, W) to (N, out, H / stride, W / stride)."""
        if self.frozen:
            weight, bias = self.norm(self.weight)
            return self.bias_add(self.conv2d(x, weight), bias)
        if self.normed:
            return self.norm(self.conv2d(x, self.weight))
        return self.bias_add(self.conv2d(x, self.weight), self.bias)
