"""The maxima of spatial pyramid pooling, with a gradient that is cheap on CPU."""

from __future__ import annotations

from typing import Tuple

import mindspore
from mindspore import Tensor, nn, ops

POOLS = 3
REACH = 2
"""Positions that a 5x5 window reaches from its centre."""
LOWEST = -3e38


class PyramidMaxima(nn.Cell):
    """5x5 maxima of stride 1, three times in a row.

    MaxPool's gradient is slow on CPU. So training follows the maxima's positions through all three and gathers the
    values from there: the gradient of that is a scatter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pool = ops.MaxPool(2 * REACH + 1, 1, "same")

    def construct(self, x: Tensor) -> Tensor:
        """From (N, C, H, W) to (N, 3 C, H, W)."""
        if not self.training:
            y = self.pool(x)
            z = self.pool(y)
            return ops.concat((y, z, self.pool(z)), 1)
        n, c, h, w = x.shape
        values = x.reshape(n * c, h * w).transpose(1, 0)  # planes last: windows shift by whole rows of memory
        best = ops.stop_gradient(values).reshape(h, w, n * c)
        place = ops.broadcast_to(ops.arange(0, h * w, 1, dtype=mindspore.int32).reshape(h, w, 1), best.shape)
        places = ()
        for _ in range(POOLS):
            best, place = window_maxima(best, place, 0)
            best, place = window_maxima(best, place, 1)
            places += (place.reshape(h * w, n * c),)
        found = ops.gather_d(values, 0, ops.concat(places, 0))  # (3 H W, N C)
        return found.reshape(POOLS, h * w, n, c).transpose(2, 0, 3, 1).reshape(n, POOLS * c, h, w)


def window_maxima(values: Tensor, places: Tensor, axis: int) -> Tuple[Tensor, Tensor]:
    """Return the maxima of 5 neighbours along ``axis``, 0 or 1, of (H, W, K), and the entries of ``places`` there."""
    length = values.shape[axis]
    beyond = (REACH, *values.shape[1:]) if axis == 0 else (values.shape[0], REACH, values.shape[2])
    low, nowhere = ops.full(beyond, LOWEST, dtype=mindspore.float32), ops.full(beyond, 0, dtype=mindspore.int32)
    one = ops.concat((low, values, low), axis), ops.concat((nowhere, places, nowhere), axis)
    two = better(one, one, axis, 1, length + 3)
    four = better(two, two, axis, 2, length + 1)
    return better(four, one, axis, 4, length)


def better(
    first: Tuple[Tensor, Tensor], second: Tuple[Tensor, Tensor], axis: int, shift: int, length: int
) -> Tuple[Tensor, Tensor]:
    """Return values and places of ``first`` or, where larger, of ``second`` ``shift`` positions further."""
    a, place_a = part(first[0], axis, 0, length), part(first[1], axis, 0, length)
    b, place_b = part(second[0], axis, shift, length), part(second[1], axis, shift, length)
    is_larger = b > a
    return ops.select(is_larger, b, a), ops.select(is_larger, place_b, place_a)


def part(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """Return ``length`` positions of x (H, W, K) along ``axis``, 0 or 1."""
    return x[start : start + length] if axis == 0 else x[:, start : start + length]
