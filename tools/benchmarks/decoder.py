"""A small decoder from features to pixels, trained with MindSpore: what an attacker with little effort has."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from mindspore import Tensor, nn, ops

HIDDEN = 64


class Decoder(nn.Cell):
    """Three 3x3 convolutions; the last gives each position's block of pixels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.layers = nn.SequentialCell(
            nn.Conv2d(channels, HIDDEN, 3, has_bias=True),
            nn.BatchNorm2d(HIDDEN),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, has_bias=True),
            nn.BatchNorm2d(HIDDEN),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, 3 * stride * stride, 3, has_bias=True),
        )

    def construct(self, features: Tensor) -> Tensor:
        """From (N, C, h, w) to pixels (N, H, W, 3), 0 to 1."""
        x = self.layers(features)
        n, _, h, w = x.shape
        s = self.stride
        return ops.sigmoid(x.reshape(n, 3, s, s, h, w).transpose(0, 4, 2, 5, 3, 1).reshape(n, h * s, w * s, 3))


class Attack:
    """Trains a decoder by the mean squared error of pixels; compiled once, begun anew for each noise."""

    def __init__(self, shape: Tuple[int, int, int], stride: int, batch: int, learning_rate: float) -> None:
        """Build the step for batches of ``batch`` features of ``shape``, (C, h, w)."""
        self._decoder = Decoder(shape[0], stride)
        optimizer = nn.Adam(self._decoder.trainable_params(), learning_rate)
        self._step = nn.TrainOneStepCell(nn.WithLossCell(self._decoder, nn.MSELoss()), optimizer)
        self._parameters = list(self._step.get_parameters())
        self._first = [parameter.asnumpy().copy() for parameter in self._parameters]

    def begin(self) -> None:
        """Forget all that was learnt."""
        for parameter, value in zip(self._parameters, self._first):
            parameter.set_data(Tensor(value, dtype=parameter.dtype))

    def step(self, features: np.ndarray, images: np.ndarray) -> None:
        """Learn from features, float32 (N, C, h, w), and their images, uint8 (N, H, W, 3)."""
        self._step.set_train()
        self._step(Tensor(features), Tensor((images / 255).astype(np.float32)))

    def reconstruct(self, features: np.ndarray) -> np.ndarray:
        """Return pixels, float32 (N, H, W, 3), 0 to 1."""
        self._decoder.set_train(False)
        return self._decoder(Tensor(features)).asnumpy()
