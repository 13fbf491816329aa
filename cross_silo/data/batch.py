"""What the reading pipeline hands out: samples of one size, stacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from cross_silo.data.transforms import Sample


@dataclass(frozen=True)
class Batch:
    """Images of one size with their boxes, padded to a fixed count."""

    image: np.ndarray
    """uint8 RGB (N, H, W, 3)."""
    boxes: np.ndarray
    """float32 (N, max_boxes, 4): x1, y1, x2, y2 in pixels of ``image``."""
    labels: np.ndarray
    """int32 (N, max_boxes): contiguous class index; 0 where there is no box."""
    valid: np.ndarray
    """int32 (N, max_boxes): 1 an object, 0 padding, -1 a crowd region."""
    image_ids: np.ndarray
    """int64 (N,): COCO ids."""


def make_batch(samples: Sequence[Tuple[int, Sample]], max_boxes: int) -> Tuple[Batch, int]:
    """Stack samples of one image size; return the batch and how many boxes found no room in it.

    Objects take their places before crowd regions, larger ones before smaller ones where not all fit.
    """
    count = len(samples)
    boxes = np.zeros((count, max_boxes, 4), np.float32)
    labels = np.zeros((count, max_boxes), np.int32)
    valid = np.zeros((count, max_boxes), np.int32)
    overflow = 0
    for row, (_, sample) in enumerate(samples):
        kept = _fitting(sample, max_boxes)
        overflow += len(sample.boxes) - len(kept)
        boxes[row, : len(kept)] = sample.boxes[kept]
        labels[row, : len(kept)] = sample.labels[kept]
        valid[row, : len(kept)] = np.where(sample.crowd[kept], -1, 1)
    images: List[np.ndarray] = [sample.image for _, sample in samples]
    ids = np.array([image_id for image_id, _ in samples], np.int64)
    return Batch(np.stack(images), boxes, labels, valid, ids), overflow


def _fitting(sample: Sample, max_boxes: int) -> np.ndarray:
    """Return the indices of at most ``max_boxes`` boxes, in the order in which they stand."""
    if len(sample.boxes) <= max_boxes:
        return np.arange(len(sample.boxes))
    area = (sample.boxes[:, 2] - sample.boxes[:, 0]) * (sample.boxes[:, 3] - sample.boxes[:, 1])
    return np.sort(np.lexsort((-area, sample.crowd))[:max_boxes])
