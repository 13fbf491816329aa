"""Images of any size brought to the network's: scaled to fit, the rest padding."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from PIL import Image

from cross_silo.data.transforms.sample import Sample, clip_boxes

Size = Tuple[int, int]
"""Height and width in pixels."""

GREY = 114
"""YOLOv5's padding, in each channel."""


class Resizing:
    """A transform that begins by scaling the image: it may as well be handed one that was decoded to that size."""

    def __init__(self, height: int, width: int) -> None:
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1 pixel, found {height} x {width}")
        self.height = height
        self.width = width

    def resized(self, height: int, width: int) -> Size:
        """Return the size to which an image of ``height`` x ``width`` is scaled: the largest that fits.

        It is its own result: an image of that size stays as it is.
        """
        ratio = min(self.height / height, self.width / width)
        return min(self.height, max(1, round(height * ratio))), min(self.width, max(1, round(width * ratio)))

    def resize(self, sample: Sample) -> Sample:
        """Scale image and boxes, in place; boxes are cut at the image."""
        height, width = sample.image.shape[:2]
        size = self.resized(height, width)
        if size != (height, width):
            resized = Image.fromarray(sample.image).resize(size[::-1], Image.BILINEAR, reducing_gap=2.0)
            sample.image = np.asarray(resized)
        scale_boxes(sample, size[0] / height, size[1] / width)
        return clip_boxes(sample, *size)

    def pad(self, sample: Sample, top: int, left: int, value: "int | Tuple[int, int, int]") -> Sample:
        """Put the image onto a canvas of ``self.height`` x ``self.width`` pixels, in place."""
        height, width = sample.image.shape[:2]
        if (height, width) != (self.height, self.width):
            canvas = np.empty((self.height, self.width, 3), np.uint8)
            canvas[:] = value
            canvas[top : top + height, left : left + width] = sample.image
            sample.image = canvas
        sample.boxes = sample.boxes + np.array([left, top, left, top], np.float32)
        sample.pad = (float(left), float(top))
        return sample


def scale_boxes(sample: Sample, scale_y: float, scale_x: float) -> None:
    """Scale boxes, in place, and note the scale."""
    sample.boxes = sample.boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
    sample.scale = (sample.scale[0] * scale_x, sample.scale[1] * scale_y)


class ResizeAndPad(Resizing):
    """Resize to fit ``height`` x ``width`` pixels and pad at the right and the bottom.

    With ``keep_ratio`` the larger side fits and the rest is padding; without, the image is stretched to fit.
    """

    def __init__(
        self,
        height: int,
        width: int,
        keep_ratio: bool = True,
        pad_value: Tuple[int, int, int] = (124, 116, 104),
    ) -> None:
        super().__init__(height, width)
        self.keep_ratio = keep_ratio
        self.pad_value = pad_value  # near ImageNet's mean: padding is about zero once normalised

    def resized(self, height: int, width: int) -> Size:
        """Return the size to which an image of ``height`` x ``width`` is scaled."""
        return super().resized(height, width) if self.keep_ratio else (self.height, self.width)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self.pad(self.resize(sample), 0, 0, self.pad_value)


class Letterbox(Resizing):
    """Resize to fit ``height`` x ``width`` pixels, ratio kept, and pad on both sides alike."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        sample = self.resize(sample)
        height, width = sample.image.shape[:2]
        return self.pad(sample, (self.height - height) // 2, (self.width - width) // 2, GREY)
