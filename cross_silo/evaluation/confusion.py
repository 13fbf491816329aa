"""Which class was taken for which: objects and detections paired over all classes, at one IoU and one score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from cross_silo.data.coco import CocoDataset

IOU = 0.5
BACKGROUND = "background"

Results = Sequence[Mapping[str, Any]]
"""COCO results or annotations: category_id, bbox (x, y, width, height); detections have a score."""


@dataclass(frozen=True)
class Pairs:
    """One image's objects and detections, paired."""

    of_detection: List[Optional[int]]
    """For each detection the place of its object; None: it has none."""
    of_object: List[Optional[int]]
    """For each object the place of its detection; None: it was missed."""
    ignored: List[bool]
    """For each detection whether it lies on a crowd region, and counts neither way."""


@dataclass(frozen=True)
class Confusion:
    """Counts by true class (rows) and detected class (columns); the last of each is background."""

    classes: Tuple[str, ...]
    counts: np.ndarray
    """int (classes + 1, classes + 1). Last column: missed objects; last row: detections of nothing."""
    score: float
    iou: float = IOU

    def as_dict(self) -> Dict[str, Any]:
        """Return plain values for json."""
        labels = [*self.classes, BACKGROUND]
        return {"score": self.score, "iou": self.iou, "labels": labels, "counts": self.counts.tolist()}


def confusion_table(dataset: CocoDataset, detections: Results, score: float) -> Confusion:
    """Count over a whole set.

    Args:
        score: least score of the detections that count.
    """
    index = dataset.class_index
    found: Dict[int, List[Mapping[str, Any]]] = {}
    for detection in detections:
        if detection["score"] >= score:
            found.setdefault(detection["image_id"], []).append(detection)
    background = len(dataset.categories)
    counts = np.zeros((background + 1, background + 1), np.int64)
    for image_id, entries in dataset.annotations_by_image().items():
        known = [entry for entry in entries if entry["category_id"] in index]
        objects, crowds = split_crowds(known)
        of_image = found.get(image_id, [])
        pairs = pair(objects, crowds, of_image)
        for place, detection in enumerate(of_image):
            if not pairs.ignored[place]:
                partner = pairs.of_detection[place]
                true = background if partner is None else index[objects[partner]["category_id"]]
                counts[true, index[detection["category_id"]]] += 1
        for place, entry in enumerate(objects):
            counts[index[entry["category_id"]], background] += pairs.of_object[place] is None
    return Confusion(tuple(category.name for category in dataset.categories), counts, score)


def split_crowds(entries: Results) -> Tuple[List[Mapping[str, Any]], List[Mapping[str, Any]]]:
    """Return the single objects and the crowd regions."""
    crowds = [entry for entry in entries if entry.get("iscrowd", 0)]
    return [entry for entry in entries if not entry.get("iscrowd", 0)], crowds


def pair(objects: Results, crowds: Results, detections: Results, iou: float = IOU) -> Pairs:
    """Give each detection, best score first, the free object that it overlaps most, from ``iou`` on.

    Classes do not matter, except between objects that it overlaps equally: its own class comes first. A detection
    without an object is ignored where at least ``iou`` of its own area lies in a crowd region.
    """
    boxes, regions = _corners(objects), _corners(crowds)
    of_detection: List[Optional[int]] = [None] * len(detections)
    of_object: List[Optional[int]] = [None] * len(objects)
    ignored = [False] * len(detections)
    for place in sorted(range(len(detections)), key=lambda i: -detections[i]["score"]):
        own = _corners([detections[place]])[0]
        shared = _intersection(own, boxes)
        union = _area(own) + _area(boxes) - shared
        overlap = np.where(union > 0, shared / np.maximum(union, 1e-9), 0)
        free = [i for i in range(len(objects)) if of_object[i] is None and overlap[i] >= iou]
        if free:
            same = [objects[i]["category_id"] == detections[place]["category_id"] for i in range(len(objects))]
            best = max(free, key=lambda i, overlap=overlap, same=same: (overlap[i], same[i]))
            of_detection[place], of_object[best] = best, place
        else:
            inside = _intersection(own, regions) / max(_area(own), 1e-9)
            ignored[place] = bool((inside >= iou).any())
    return Pairs(of_detection, of_object, ignored)


def _corners(entries: Results) -> np.ndarray:
    """Return x1, y1, x2, y2 as (n, 4)."""
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _intersection(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the area that ``box`` (4,) shares with each of ``boxes`` (n, 4)."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    return np.maximum(high - low, 0).prod(axis=1)
