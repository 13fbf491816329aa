"""Four images around one point (the mosaic of YOLOv4, Bochkovskiy et al. 2020, section 3.3, as YOLOv5 v6 lays it)."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from cross_silo.data.transforms.resize import GREY, Letterbox, Resizing
from cross_silo.data.transforms.sample import MixTransform, Sample, clip_boxes


class Mosaic(Resizing, MixTransform):
    """Lay the image and three others on a canvas of twice ``height`` x ``width`` pixels, with a probability.

    Their corners meet at a random point of the canvas's middle half; what does not fit is cut off. A
    :class:`RandomAffine` that follows crops to ``height`` x ``width``. Otherwise the image is letterboxed.
    ``scale`` and ``pad`` of the result mean nothing: a mosaic is for training, where nothing maps boxes back.
    """

    def __init__(self, height: int, width: int, probability: float) -> None:
        super().__init__(height, width)
        if not 0 <= probability <= 1:
            raise ValueError(f"mosaic must lie in 0 to 1, found {probability}")
        self.probability = probability
        self.num_others = 3 if probability > 0 else 0
        self._letterbox = Letterbox(height, width)

    def __call__(self, sample: Sample, rng: np.random.Generator, others: Sequence[Sample]) -> Sample:
        mixed = rng.random() < self.probability
        centre_y = int(rng.uniform(0.5, 1.5) * self.height)
        centre_x = int(rng.uniform(0.5, 1.5) * self.width)
        places = rng.permutation(4)  # top left, top right, bottom left, bottom right
        if not mixed:
            return self._letterbox(sample, rng)
        canvas = np.full((2 * self.height, 2 * self.width, 3), GREY, np.uint8)
        samples = [self.resize(each) for each in (sample, *others)]
        for each, place in zip(samples, places.tolist()):
            height, width = each.image.shape[:2]
            top = centre_y - (height if place < 2 else 0)
            left = centre_x - (0 if place % 2 else width)
            seen = each.image[max(-top, 0) : 2 * self.height - top, max(-left, 0) : 2 * self.width - left]
            y, x = max(top, 0), max(left, 0)
            canvas[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
            each.boxes = each.boxes + np.array([left, top, left, top], np.float32)
        sample.labels = np.concatenate([each.labels for each in samples])
        sample.crowd = np.concatenate([each.crowd for each in samples])
        sample.boxes = np.concatenate([each.boxes for each in samples])
        sample.image = canvas
        return clip_boxes(sample, *canvas.shape[:2])
