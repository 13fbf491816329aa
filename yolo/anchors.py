"""Anchors: those of the settings, and how well they fit boxes."""

from __future__ import annotations

import numpy as np

from yolo.settings import Settings


def anchor_table(settings: Settings) -> np.ndarray:
    """Return the anchors, float32 (levels, A, 2): width and height in input pixels."""
    return np.asarray(settings.anchors, np.float32).reshape(len(settings.anchors), -1, 2)
