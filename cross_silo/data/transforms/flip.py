"""Mirrored images: boxes follow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cross_silo.data.transforms.sample import Sample


class _Flip:
    """Mirror image and boxes along one axis, with a probability.

    ``scale`` and ``pad`` stay as they are: a mirrored sample is for training, where nothing maps boxes back.
    """

    axis: int
    """0: x, 1: y."""
    method: Image.Transpose

    def __init__(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in 0 to 1, found {probability}")
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        side = sample.image.shape[1 - self.axis]
        # Several times faster than a reversed numpy view made contiguous.
        sample.image = np.asarray(Image.fromarray(sample.image).transpose(self.method))
        boxes = sample.boxes.copy()
        boxes[:, self.axis] = side - sample.boxes[:, self.axis + 2]
        boxes[:, self.axis + 2] = side - sample.boxes[:, self.axis]
        sample.boxes = boxes
        return sample


class HorizontalFlip(_Flip):
    """Mirror image and boxes left to right, with a probability."""

    axis = 0
    method = Image.FLIP_LEFT_RIGHT


class VerticalFlip(_Flip):
    """Mirror image and boxes top to bottom, with a probability."""

    axis = 1
    method = Image.FLIP_TOP_BOTTOM
