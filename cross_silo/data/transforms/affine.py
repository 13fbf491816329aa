"""Random scale, position, rotation and shear (YOLOv5 v6's augmentation, without perspective)."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from cross_silo.data.transforms.resize import GREY
from cross_silo.data.transforms.sample import Sample, keep_boxes

LEAST_SIDE = 2.0
"""Pixels that a box must be wider and higher than."""
LEAST_AREA = 0.1
"""Share of its area that a box must keep inside the image."""
MOST_ASPECT = 100.0


class RandomAffine:
    """Map an image of any size to ``height`` x ``width`` pixels: its centre to about theirs, at a random scale.

    Boxes become the bounds of their mapped corners, cut at the image; those of which little is left go.
    ``scale`` and ``pad`` stay as they are: the result is for training, where nothing maps boxes back.
    """

    def __init__(self, height: int, width: int, degrees: float, translate: float, scale: float, shear: float) -> None:
        """Prepare.

        Args:
            degrees: largest rotation, either way.
            translate: largest shift of the centre along each axis, in the result's sides.
            scale: the factor is drawn from 1 - scale to 1 + scale.
            shear: largest shear along each axis, in degrees.
        """
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1 pixel, found {height} x {width}")
        for name, value, most in (("degrees", degrees, 180), ("translate", translate, 1)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must lie in 0 to {most}, found {value}")
        for name, value, end in (("scale", scale, 1), ("shear", shear, 45)):
            if not 0 <= value < end:
                raise ValueError(f"{name} must lie in 0 to below {end}, found {value}")
        self.height = height
        self.width = width
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        linear, centre, gain = self._draw(rng)
        # Points are columns: out = linear @ (in - middle) + centre.
        offset = centre - linear @ (width / 2, height / 2)
        sample.image = np.asarray(self._map(Image.fromarray(sample.image), linear, offset))
        return self._move_boxes(sample, linear, offset, gain)

    def _map(self, image: Image.Image, linear: np.ndarray, offset: np.ndarray) -> Image.Image:
        size = (self.width, self.height)
        back = np.linalg.inv(linear)
        low = -back @ offset  # where the result's top left corner comes from
        high = low + back @ size
        if not (linear[0, 1] or linear[1, 0]) and (low >= 0).all() and (high <= image.size).all():
            return image.resize(size, Image.BILINEAR, (*low, *high))  # twice as fast, and smooth where it shrinks
        coefficients = np.column_stack([back, low]).ravel().tolist()
        return image.transform(size, Image.AFFINE, coefficients, Image.BILINEAR, fillcolor=(GREY,) * 3)

    def _draw(self, rng: np.random.Generator) -> "tuple[np.ndarray, np.ndarray, float]":
        """Return a linear map (2, 2) of (x, y), where it takes the image's middle (2,), and its scale."""
        draws = rng.uniform(-1, 1, 6)  # all, whatever the strengths, so that one does not move the others' draws
        angle = math.radians(self.degrees * draws[0])
        gain = 1 + self.scale * draws[1]
        turn = gain * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        along_x, along_y = np.tan(np.radians(self.shear * draws[2:4]))
        centre = (0.5 + self.translate * draws[4:6]) * (self.width, self.height)
        return np.array([[1, along_x], [along_y, 1]]) @ turn, centre, gain

    def _move_boxes(self, sample: Sample, linear: np.ndarray, offset: np.ndarray, gain: float) -> Sample:
        before = sample.boxes.astype(np.float64)
        corners = before[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ linear.T + offset
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        boxes = np.clip(boxes, 0, [self.width, self.height, self.width, self.height])
        old_width, old_height = (before[:, 2:] - before[:, :2]).T * gain
        new_width, new_height = (boxes[:, 2:] - boxes[:, :2]).T
        kept = (
            (np.minimum(new_width, new_height) > LEAST_SIDE)
            & (new_width * new_height > LEAST_AREA * old_width * old_height)
            & (np.maximum(new_width, new_height) < MOST_ASPECT * np.minimum(new_width, new_height))
        )
        return keep_boxes(sample, boxes.astype(np.float32), kept)
