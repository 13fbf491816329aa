"""What transforms work on, and how they are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Iterable, Protocol, Sequence, Tuple, Union

import numpy as np


@dataclass
class Sample:
    """A decoded image with its objects."""

    image: np.ndarray
    """uint8 RGB, (height, width, 3). Transforms replace it and never write into it."""
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


class MixTransform(ABC):
    """Makes one sample of several images. It can only stand first: the others come untransformed."""

    num_others: int = 0
    """Images that are drawn for each call."""

    @abstractmethod
    def __call__(self, sample: Sample, rng: np.random.Generator, others: Sequence[Sample]) -> Sample:
        """Return the mixed sample; ``others`` are ``num_others`` samples, which may be changed."""


AnyTransform = Union[Transform, MixTransform]


def apply(
    transforms: Iterable[AnyTransform], sample: Sample, rng: np.random.Generator, others: Sequence[Sample] = ()
) -> Sample:
    """Run ``transforms`` in order; boxes end inside the image, and those with nothing left are gone.

    Args:
        others: what a :class:`MixTransform` mixes ``sample`` with.
    """
    for transform in transforms:
        mixes = isinstance(transform, MixTransform)
        sample = transform(sample, rng, others) if mixes else transform(sample, rng)
    height, width = sample.image.shape[:2]
    return clip_boxes(sample, height, width)


def clip_boxes(sample: Sample, height: float, width: float) -> Sample:
    """Clip boxes to ``height`` x ``width`` pixels and drop those without area, in place."""
    boxes = np.clip(sample.boxes, 0, np.array([width, height, width, height], np.float32))
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return keep_boxes(sample, boxes, kept)


def keep_boxes(sample: Sample, boxes: np.ndarray, kept: np.ndarray) -> Sample:
    """Replace the sample's boxes by those of ``boxes``, float32 (n, 4), that ``kept``, bool (n,), marks, in place."""
    sample.boxes = boxes[kept]
    sample.labels = sample.labels[kept]
    sample.crowd = sample.crowd[kept]
    return sample
