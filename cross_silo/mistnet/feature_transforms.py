"""Augmentation of feature maps: mirrored and shifted, boxes following.

The server has no images, so it is the map that is moved, by whole cells (MistNet 2020: crops of padded feature maps).
A mirrored map is not exactly the map of a mirrored image: the filters before the cut have directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cross_silo.mistnet.spec import Shape

KEPT_SHARE = 0.3
"""Of a box's area, that must stay in view after a shift for the object to count; less is background."""


@dataclass
class FeatureSample:
    """One image's features with its objects."""

    features: np.ndarray
    """float32 (C, h, w)."""
    labels: np.ndarray
    """float32 (n, 6): x1, y1, x2, y2 in pixels of the network's input, class index, crowd."""


@dataclass(frozen=True)
class FeatureAugmentation:
    """Mirrors with probability ``flip``, then shifts each way by up to the share ``crop`` of the map."""

    flip: float
    crop: float
    height: int
    """Pixels of the network's input."""
    width: int
    """Pixels of the network's input."""

    def __call__(self, sample: FeatureSample, rng: np.random.Generator) -> FeatureSample:
        """Return the sample moved at random; the one given stays as it is."""
        if rng.random() < self.flip:
            sample = mirrored(sample, self.width)
        _, rows, columns = sample.features.shape
        most = int(self.crop * rows), int(self.crop * columns)
        down, right = (int(rng.integers(-m, m + 1)) for m in most)
        if not down and not right:
            return sample
        return shifted(sample, down, right, self.height, self.width)


def mirrored(sample: FeatureSample, width: int) -> FeatureSample:
    """Return the sample with left and right exchanged; ``width`` in pixels of the network's input."""
    labels = sample.labels.copy()
    labels[:, 0], labels[:, 2] = width - sample.labels[:, 2], width - sample.labels[:, 0]
    return FeatureSample(sample.features[:, :, ::-1], labels)


def shifted(sample: FeatureSample, down: int, right: int, height: int, width: int) -> FeatureSample:
    """Return the sample moved by whole cells; what comes into view is 0, as a bit that is not set.

    Args:
        height, width: pixels of the network's input.
    """
    shape: Shape = sample.features.shape  # type: ignore[assignment]
    _, rows, columns = shape
    moved = np.zeros_like(sample.features)
    moved[:, max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = sample.features[
        :, max(-down, 0) : rows + min(-down, 0), max(-right, 0) : columns + min(-right, 0)
    ]
    labels = sample.labels.copy()
    labels[:, [0, 2]] += right * width / columns
    labels[:, [1, 3]] += down * height / rows
    area = _area(labels)
    labels[:, [0, 2]] = labels[:, [0, 2]].clip(0, width)
    labels[:, [1, 3]] = labels[:, [1, 3]].clip(0, height)
    return FeatureSample(moved, labels[_area(labels) > KEPT_SHARE * np.maximum(area, 1e-6)])


def _area(labels: np.ndarray) -> np.ndarray:
    return (labels[:, 2] - labels[:, 0]) * (labels[:, 3] - labels[:, 1])
