"""Random colours: boxes stay as they are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cross_silo.data.transforms.sample import Sample


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


class HSVJitter:
    """Random gains on hue, saturation and value, each from 1 - value to 1 + value (YOLOv5 v6's colour augmentation).

    Like there the hue is multiplied, by the angle that it has, and starts anew after the full circle.
    """

    def __init__(self, hue: float, saturation: float, value: float) -> None:
        for name, strength in (("hue", hue), ("saturation", saturation), ("value", value)):
            if not 0 <= strength <= 1:
                raise ValueError(f"{name} must lie in 0 to 1, found {strength}")
        self.strengths = np.array([hue, saturation, value])

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        gains = 1 + self.strengths * rng.uniform(-1, 1, 3)
        if (gains == 1).all():
            return sample
        levels = np.rint(np.arange(256) * gains[:, None])  # (3, 256)
        levels[0] %= 255  # Pillow's full circle: 0 and 255 are the same hue
        table = np.minimum(levels, 255).astype(np.uint8).ravel().tolist()
        sample.image = np.asarray(Image.fromarray(sample.image).convert("HSV").point(table).convert("RGB"))
        return sample
