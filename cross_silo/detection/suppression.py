"""From an image's scored boxes to its detections: per-class non-maximum suppression, in numpy."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np


def suppress(boxes: np.ndarray, iou_thr: float, most: Optional[int] = None) -> np.ndarray:
    """Return the rows, ascending, that greedy suppression keeps of boxes (K, 4), best first; the first ``most``."""
    kept: List[int] = []
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    area = (x2 - x1) * (y2 - y1)
    rest = np.arange(len(boxes))
    while rest.size and len(kept) != most:
        best, rest = rest[0], rest[1:]
        kept.append(best)
        w = np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest])
        h = np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest])
        common = np.maximum(w, 0) * np.maximum(h, 0)
        rest = rest[common <= iou_thr * (area[best] + area[rest] - common)]
    return np.asarray(kept, np.int64)


def detections(
    scores: np.ndarray,
    boxes: np.ndarray,
    score_thr: float,
    iou_thr: float,
    most: int,
    candidates: Optional[int] = None,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image's detections.

    Args:
        scores: float32 (R, classes), background not among them.
        boxes: float32 (R, classes, 4), or (R, 4) where the classes share them; x1, y1, x2, y2 in pixels.
        score_thr: least score.
        iou_thr: IoU above which the worse of two detections of a class goes.
        most: detections returned.
        candidates: how many of the best scores enter suppression; None: all.

    Returns:
        boxes float32 (k, 4), scores float32 (k,) falling, class indices int32 (k,).
    """
    row, label = np.nonzero(scores > score_thr)
    score, found = scores[row, label], boxes[row] if boxes.ndim == 2 else boxes[row, label]
    has_area = (found[:, 2:] > found[:, :2]).all(1)
    label, score, found = label[has_area], score[has_area], found[has_area]
    order = np.argsort(-score, kind="stable")[:candidates]
    label, score, found = label[order], score[order], found[order]
    # Classes are shifted apart so that one pass suppresses all of them.
    extent = float(found.max()) - float(found.min()) + 1 if len(found) else 0.0
    keep = suppress(found + label[:, None] * extent, iou_thr, most)
    return found[keep], score[keep], label[keep].astype(np.int32)
