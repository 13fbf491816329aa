"""Per-image transforms: numpy arrays in, numpy arrays out, randomness only from the generator given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Protocol, Tuple

import numpy as np
from PIL import Image


@dataclass
class Sample:
    """A decoded image with its objects."""

    image: np.ndarray
    """uint8 RGB, (height, width, 3)."""
    boxes: np.ndarray
    """float32 (n, 4): x1, y1, x2, y2 in pixels of ``image``."""
    labels: np.ndarray
    """int32 (n,): contiguous class index."""
    crowd: np.ndarray
    """bool (n,): the box is a crowd region."""
    scale: Tuple[float, float] = (1.0, 1.0)
    """Pixels of ``image`` per original pixel: (x, y)."""
    pad: Tuple[float, float] = field(default=(0.0, 0.0))
    """Pixels of padding left of and above the resized image: (x, y)."""


class Transform(Protocol):
    """Changes a sample; may change it in place."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the transformed sample."""


def apply(transforms: Iterable[Transform], sample: Sample, rng: np.random.Generator) -> Sample:
    """Run ``transforms`` in order; boxes end inside the image, and those with nothing left are gone."""
    for transform in transforms:
        sample = transform(sample, rng)
    height, width = sample.image.shape[:2]
    return clip_boxes(sample, height, width)


def clip_boxes(sample: Sample, height: float, width: float) -> Sample:
    """Clip boxes to ``height`` x ``width`` pixels and drop those without area, in place."""
    boxes = np.clip(sample.boxes, 0, np.array([width, height, width, height], np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    sample.boxes = boxes[kept]
    sample.labels = sample.labels[kept]
    sample.crowd = sample.crowd[kept]
    return sample


class ResizeAndPad:
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
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1 pixel, found {height} x {width}")
        self.height = height
        self.width = width
        self.keep_ratio = keep_ratio
        self.pad_value = pad_value  # near ImageNet's mean: padding is about zero once normalised

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        new_height, new_width = self.height, self.width
        if self.keep_ratio:
            ratio = min(self.height / height, self.width / width)
            new_height = min(self.height, max(1, round(height * ratio)))
            new_width = min(self.width, max(1, round(width * ratio)))
        image = sample.image
        if (new_height, new_width) != (height, width):
            resized = Image.fromarray(image).resize((new_width, new_height), Image.BILINEAR, reducing_gap=2.0)
            image = np.asarray(resized)
        if (new_height, new_width) != (self.height, self.width):
            canvas = np.empty((self.height, self.width, 3), np.uint8)
            canvas[:] = self.pad_value
            canvas[:new_height, :new_width] = image
            image = canvas
        scale_x, scale_y = new_width / width, new_height / height
        sample.image = image
        sample.boxes = sample.boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        sample.scale = (sample.scale[0] * scale_x, sample.scale[1] * scale_y)
        sample.pad = (0.0, 0.0)
        return clip_boxes(sample, new_height, new_width)


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


class ColorJitter:
    """Random brightness, contrast, saturation and hue, in this order.

    The first three multiply by a factor from 1 - value to 1 + value (contrast about the mean grey,
    saturation about each pixel's grey); ``hue`` shifts by up to that part of the colour circle (at most 0.5).
    """

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float) -> None:
        for name, value, most in (
            ("brightness", brightness, 1),
            ("contrast", contrast, 1),
            ("saturation", saturation, 1),
            ("hue", hue, 0.5),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must lie in 0 to {most}, found {value}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        # All four are drawn whatever the strengths, so that one strength does not move the others' draws.
        draws = rng.uniform(-1, 1, 4)
        image = Image.fromarray(sample.image)
        if self.brightness or self.contrast:
            image = self._brightness_and_contrast(image, draws[0], draws[1])
        if self.saturation:
            grey = image.convert("L").convert("RGB")
            image = Image.blend(grey, image, 1 + self.saturation * draws[2])
        if self.hue:
            hue, saturation, value = image.convert("HSV").split()
            shift = round(self.hue * draws[3] * 256)
            hue = hue.point([(level + shift) % 256 for level in range(256)])
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        sample.image = np.asarray(image)
        return sample

    def _brightness_and_contrast(self, image: Image.Image, bright: float, contrast: float) -> Image.Image:
        """Both act on each channel value alone, so that one table of 256 entries does them."""
        levels = np.clip(np.arange(256) * (1 + self.brightness * bright), 0, 255)
        histogram = image.convert("L").histogram()
        mean = float(np.dot(levels, histogram) / sum(histogram))
        levels = np.clip((levels - mean) * (1 + self.contrast * contrast) + mean, 0, 255)
        return image.point(np.rint(levels).astype(np.uint8).tolist() * 3)
