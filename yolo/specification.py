"""The layers of YOLOv5 release 6 as the field numbers them, and how a variant scales them. No MindSpore."""

from __future__ import annotations

import math
from typing import Tuple

from yolo.settings import Settings

# Layer: kind, where its input comes from (-1: the layer before), channels and depth of variant l.
SPECIFICATION: Tuple[Tuple[str, Tuple[int, ...], int, int], ...] = (
    ("stem", (-1,), 64, 0),  # 0, stride 2
    ("conv", (-1,), 128, 0),  # 1, stride 4
    ("c3", (-1,), 128, 3),
    ("conv", (-1,), 256, 0),  # 3, stride 8
    ("c3", (-1,), 256, 6),
    ("conv", (-1,), 512, 0),  # 5, stride 16
    ("c3", (-1,), 512, 9),
    ("conv", (-1,), 1024, 0),  # 7, stride 32
    ("c3", (-1,), 1024, 3),
    ("sppf", (-1,), 1024, 0),
    ("pointwise", (-1,), 512, 0),  # 10
    ("upsample", (-1,), 0, 0),
    ("concat", (-1, 6), 0, 0),
    ("c3_plain", (-1,), 512, 3),
    ("pointwise", (-1,), 256, 0),  # 14
    ("upsample", (-1,), 0, 0),
    ("concat", (-1, 4), 0, 0),
    ("c3_plain", (-1,), 256, 3),  # 17: the level of stride 8
    ("conv", (-1,), 256, 0),
    ("concat", (-1, 14), 0, 0),
    ("c3_plain", (-1,), 512, 3),  # 20: of stride 16
    ("conv", (-1,), 512, 0),
    ("concat", (-1, 10), 0, 0),
    ("c3_plain", (-1,), 1024, 3),  # 23: of stride 32
)
LEVELS = (17, 20, 23)
"""Layers that the head reads."""
CUT_STRIDES = (2, 4, 4, 8, 8)
"""Pixels of the network's input per position of the outputs of layers 0 to 4."""


def scaled_channels(channels: int, width_multiple: float) -> int:
    """Return ``channels`` times the multiple, up to the next multiple of 8."""
    return math.ceil(channels * width_multiple / 8) * 8


def scaled_depth(depth: int, depth_multiple: float) -> int:
    """Return ``depth`` times the multiple, at least 1."""
    return max(round(depth * depth_multiple), 1)


def output_channels(settings: Settings, layer: int) -> int:
    """Return the channels of the output of ``layer``, one that has weights."""
    return scaled_channels(SPECIFICATION[layer][2], settings.multiples[1])
