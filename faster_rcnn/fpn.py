"""Feature pyramid (Lin et al. 2017, Feature Pyramid Networks for Object Detection, section 3)."""

from __future__ import annotations

from typing import Sequence, Tuple

from mindspore import Tensor, nn
from mindspore.common.initializer import HeUniform

from faster_rcnn.layers import Conv


class FeaturePyramid(nn.Cell):
    """Pyramid levels from the backbone's stages.

    Args:
        in_channels: of the stages used, finest first.
        out_channels: of every level.
        extra_level: add a level of twice the coarsest stride (P6), every second position of the coarsest one.
        norm: as in :class:`Conv`.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int, extra_level: bool, norm: str = "") -> None:
        super().__init__()
        init = HeUniform(negative_slope=1)
        self.lateral = nn.CellList([Conv(c, out_channels, 1, norm=norm, init=init) for c in in_channels])
        self.output = nn.CellList([Conv(out_channels, out_channels, 3, norm=norm, init=init) for _ in in_channels])
        self.extra_level = extra_level
        self.levels = len(in_channels)

    def construct(self, stages: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
        """From the stages (N, C, H, W), each half the size of the one before, to the levels, finest first."""
        merged = self.lateral[self.levels - 1](stages[self.levels - 1])
        levels = (self.output[self.levels - 1](merged),)
        if self.extra_level:
            levels = (levels[0], levels[0][:, :, ::2, ::2])
        for i in range(self.levels - 2, -1, -1):
            merged = add_upsampled(self.lateral[i](stages[i]), merged)
            levels = (self.output[i](merged), *levels)
        return levels


def add_upsampled(fine: Tensor, coarse: Tensor) -> Tensor:
    """Add ``coarse`` (N, C, H, W), each value repeated 2 x 2, to ``fine`` (N, C, 2 H, 2 W).

    A broadcast sum: several times faster on CPU than a resize operator and a sum.
    """
    n, c, h, w = coarse.shape
    return (fine.reshape(n, c, h, 2, w, 2) + coarse.reshape(n, c, h, 1, w, 1)).reshape(n, c, 2 * h, 2 * w)
