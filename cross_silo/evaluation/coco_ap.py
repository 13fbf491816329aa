"""COCO average precision of boxes, by pycocotools (Lin 2014, https://cocodataset.org/#detection-eval)."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from cross_silo.data.coco import CocoDataset, read_coco
from cross_silo.errors import UserError

ALL_AREAS, MOST_DETECTIONS = 0, -1  # pycocotools' places of "all sizes" and of 100 detections an image
IOU_50, IOU_75 = 0, 5  # places of IoU 0.50 and 0.75 among 0.50, 0.55, ..., 0.95


@dataclass(frozen=True)
class ClassResult:
    """One class's part of an evaluation; None where the class has no objects."""

    name: str
    num_objects: int
    """Crowd regions not counted."""
    AP: Optional[float]
    AP50: Optional[float]


@dataclass(frozen=True)
class Evaluation:
    """COCO's box metrics, 0 to 1; None where the ground truth has no object of that size."""

    AP: float
    """Mean over IoU 0.50 to 0.95 and classes."""
    AP50: float
    """At IoU 0.50."""
    AP75: float
    APs: Optional[float]
    """Objects below 32 x 32 pixels of the original image."""
    APm: Optional[float]
    APl: Optional[float]
    """Objects above 96 x 96 pixels."""
    by_class: Tuple[ClassResult, ...]
    num_images: int
    num_detections: int
    curves: Mapping[float, np.ndarray] = field(repr=False, compare=False)
    """Precision by IoU (0.50 and 0.75): float (classes, 101) at recall 0, 0.01, ..., 1.

    Interpolated as COCO's AP is: the best precision at that recall or a higher one. nan for a class without objects.
    """

    def as_dict(self) -> Dict[str, Any]:
        """Return the metrics as plain values for json."""
        return {name: value for name, value in asdict(self).items() if name != "curves"}


def evaluate_detections(
    dataset: Union[CocoDataset, str, "os.PathLike[str]"], detections: Sequence[Mapping[str, Any]]
) -> Evaluation:
    """Measure detections against the ground truth of a COCO file.

    Args:
        dataset: the ground truth, or its path.
        detections: COCO results: image_id, category_id, bbox (x, y, width, height in original pixels), score.

    Raises:
        UserError: the file is wrong or has no objects, or a detection is of an unknown image or not finite.
    """
    if not isinstance(dataset, CocoDataset):
        dataset = read_coco(dataset)
    counts = _objects_by_category(dataset)
    if not sum(counts.values()):
        raise UserError(f"{dataset.path}: has no objects to evaluate against; expected at least one")
    _check_detections(dataset, detections)
    if not detections:
        print(f"warning: no detections for {dataset.path}: every AP is 0", file=sys.stderr, flush=True)
    stats, precision = _run_pycocotools(dataset, detections)
    by_class = tuple(
        ClassResult(
            category.name,
            counts[category.id],
            _mean(precision[:, :, category.index, ALL_AREAS, MOST_DETECTIONS]),
            _mean(precision[IOU_50, :, category.index, ALL_AREAS, MOST_DETECTIONS]),
        )
        for category in dataset.categories
    )
    overall = [None if value < 0 else float(value) for value in stats[:6]]
    at_recall = precision[:, :, :, ALL_AREAS, MOST_DETECTIONS]
    curves = {
        iou: np.where(at_recall[place] < 0, np.nan, at_recall[place]).T
        for iou, place in ((0.5, IOU_50), (0.75, IOU_75))
    }
    return Evaluation(*overall, by_class, len(dataset.images), len(detections), curves)


def detections_to_coco(
    detections: Tuple[np.ndarray, np.ndarray, np.ndarray],
    scale: Tuple[float, float],
    pad: Tuple[float, float],
    image_size: Tuple[int, int],
    image_id: int,
    category_ids: Sequence[int],
) -> List[Dict[str, Any]]:
    """Map one image's detections from the network's input to COCO results in original pixels.

    Args:
        detections: boxes (k, 4) as x1, y1, x2, y2 in input pixels, scores (k,), class indices (k,).
        scale: input pixels per original pixel, (x, y).
        pad: input pixels left of and above the resized image, (x, y).
        image_size: height and width of the original image; boxes are cut there, and dropped when empty.
        category_ids: COCO id by class index.
    """
    boxes, scores, labels = detections
    height, width = image_size
    corners = (np.asarray(boxes, np.float64).reshape(-1, 4) - [*pad, *pad]) / [*scale, *scale]
    corners = np.clip(corners, 0, [width, height, width, height])
    results = []
    for (x1, y1, x2, y2), score, label in zip(corners.tolist(), scores.tolist(), labels.tolist()):
        if x2 > x1 and y2 > y1:
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    return results


def _objects_by_category(dataset: CocoDataset) -> Dict[int, int]:
    counts = {category.id: 0 for category in dataset.categories}
    for of_image in dataset.annotations_by_image().values():
        for annotation in of_image:
            if annotation["category_id"] in counts and not annotation.get("iscrowd", 0):
                counts[annotation["category_id"]] += 1
    return counts


def _check_detections(dataset: CocoDataset, detections: Sequence[Mapping[str, Any]]) -> None:
    known = {image["id"] for image in dataset.images}
    for detection in detections:
        if detection["image_id"] not in known:
            raise UserError(f"a detection is of image {detection['image_id']}, which {dataset.path} does not hold")
        if not all(map(math.isfinite, (*detection["bbox"], detection["score"]))):
            raise UserError(f"a detection of image {detection['image_id']} is not finite: {dict(detection)}")


def _run_pycocotools(dataset: CocoDataset, detections: Sequence[Mapping[str, Any]]) -> Tuple[np.ndarray, np.ndarray]:
    """Return pycocotools' 12 numbers, and its precision by IoU, recall, class, area and detections an image."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints progress, and the table that we return
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": dataset.images,
            "categories": dataset.source["categories"],
            "annotations": [_with_area(annotation) for annotation in dataset.annotations],
        }
        truth.createIndex()
        if detections:
            found = truth.loadRes([dict(detection) for detection in detections])
        else:  # loadRes looks into the first one
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, evaluation.eval["precision"]


def _with_area(annotation: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a copy, pycocotools adds keys of its own, with the keys that it takes for granted."""
    _, _, width, height = annotation["bbox"]
    return {"area": width * height, "iscrowd": 0, **annotation}


def _mean(precision: np.ndarray) -> Optional[float]:
    """Mean over the entries that pycocotools has filled; -1 marks the others."""
    filled = precision[precision > -1]
    return float(filled.mean()) if filled.size else None
