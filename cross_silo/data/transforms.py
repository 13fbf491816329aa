"""Per-image transforms: numpy arrays in, numpy arrays out, randomness only from the generator given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Tuple

import numpy as np


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
