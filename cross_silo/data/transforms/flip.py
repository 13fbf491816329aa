"""Mirrored images: boxes follow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cross_silo.data.transforms.sample import Sample


class HorizontalFlip:
    """Mirror image and boxes left to right, with a probability.

    ``scale`` and ``pad`` stay as they are: a mirrored sample is for training, where nothing maps boxes back.
    """

    def __init__(self, probability: float) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in 0 to 1, found {probability}")
        self.probability = probability

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.probability:
            return sample
        width = sample.image.shape[1]
        # Several times faster than a reversed numpy view made contiguous.
        sample.image = np.asarray(Image.fromarray(sample.image).transpose(Image.FLIP_LEFT_RIGHT))
        boxes = sample.boxes.copy()
        boxes[:, 0] = width - sample.boxes[:, 2]
        boxes[:, 2] = width - sample.boxes[:, 0]
        sample.boxes = boxes
        return sample
