"""Anchor boxes (Ren et al. 2015, section 3.1.1), one scale a pyramid level (Lin et al. 2017, section 4.1)."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np


def level_sizes(height: int, width: int, strides: Sequence[int]) -> List[Tuple[int, int]]:
    """Return each level's (height, width) in positions for an input of ``height`` x ``width`` pixels."""
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


def make_anchors(
    height: int, width: int, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]
) -> List[np.ndarray]:
    """Return each level's anchors: float32 (H * W * A, 4), x1, y1, x2, y2 in pixels.

    Rows go by y, x, then ratio, then scale. Anchors are centred on their position's cell, may reach over the
    image's border, and have sides ``stride * scale / sqrt(ratio)`` (width) and ``... * sqrt(ratio)`` (height).
    """
    levels = []
    for stride, (rows, columns) in zip(strides, level_sizes(height, width, strides)):
        roots = np.sqrt(np.asarray(ratios, np.float64))[:, None]
        sizes = stride * np.asarray(scales, np.float64)[None]
        half = np.stack([sizes / roots, sizes * roots], -1).reshape(-1, 2) / 2  # (A, 2): half width, half height
        ys, xs = np.meshgrid(np.arange(rows) + 0.5, np.arange(columns) + 0.5, indexing="ij")
        centres = np.stack([xs, ys], -1).reshape(-1, 1, 2) * stride  # (H * W, 1, 2)
        levels.append(np.concatenate([centres - half, centres + half], -1).reshape(-1, 4).astype(np.float32))
    return levels
