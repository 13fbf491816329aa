"""One image of a COCO file as one record: untouched bytes and checked boxes, with a tally of what was left out."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from cross_silo.data.image_file import BadImageError, check_image, decode_image

SCHEMA: Dict[str, Dict[str, Any]] = {
    "image": {"type": "bytes"},
    "annotation": {"type": "float32", "shape": [-1, 6]},
    "image_id": {"type": "int64"},
    "file": {"type": "string"},
    "height": {"type": "int32"},
    "width": {"type": "int32"},
}
"""``annotation``: x1, y1, x2, y2 in pixels, contiguous class index, iscrowd."""

LARGEST_FILE = 128 << 20  # bytes: half of MindRecord's largest page
CLIP_TOLERANCE = 0.01  # pixels: a box that is cut by less is not reported; COCO rounds to 0.01

IMAGE_REASONS = {
    "missing": "no such file, or not readable",
    "header": "header is not readable as JPEG or PNG",
    "end": "no end marker: cut short",
    "size": "height and width differ from the json's",
    "large": f"larger than {LARGEST_FILE >> 20} MiB",
    "pixels": "pixels cannot be decoded",
    "empty": "no boxes",
}
BOX_REASONS = {
    "unknown_image": "image id is not in the file",
    "unknown_category": "category id is not in the file",
    "not_finite": "a coordinate is not finite",
    "degenerate": "width or height is not above 0",
    "outside": "wholly outside the image",
}


@dataclass
class Tally:
    """What was written and what was left out, by reason."""

    num_classes: int
    images: int = 0
    boxes_by_class: List[int] = field(default_factory=list)
    crowd: int = 0
    most_boxes: int = 0
    clipped_boxes: int = 0
    skipped_images: Dict[str, List[str]] = field(default_factory=dict)
    """File names by reason, one of ``IMAGE_REASONS``."""
    skipped_boxes: Dict[str, List[int]] = field(default_factory=dict)
    """Annotation ids by reason, one of ``BOX_REASONS``."""

    def __post_init__(self) -> None:
        self.boxes_by_class = self.boxes_by_class or [0] * self.num_classes

    def add(self, other: "Tally") -> None:
        """Add what another part of the same file has counted."""
        self.images += other.images
        self.boxes_by_class = [a + b for a, b in zip(self.boxes_by_class, other.boxes_by_class)]
        self.crowd += other.crowd
        self.most_boxes = max(self.most_boxes, other.most_boxes)
        self.clipped_boxes += other.clipped_boxes
        for reason, names in other.skipped_images.items():
            self.skipped_images.setdefault(reason, []).extend(names)
        for reason, ids in other.skipped_boxes.items():
            self.skipped_boxes.setdefault(reason, []).extend(ids)

    def skip_image(self, reason: str, file_name: str) -> None:
        """Count an image that is left out."""
        self.skipped_images.setdefault(reason, []).append(file_name)

    def skip_box(self, reason: str, annotation_id: int) -> None:
        """Count a box that is left out."""
        self.skipped_boxes.setdefault(reason, []).append(annotation_id)


def make_record(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    class_index: Mapping[int, int],
    image_dir: str,
    tally: Tally,
    keep_empty: bool,
    verify: bool,
) -> Optional[Dict[str, Any]]:
    """Return the record of one COCO image, or None where it is left out; either is counted in ``tally``.

    Args:
        image, annotations: entries of a checked COCO file.
        class_index: contiguous class index by COCO category id.
        keep_empty: write images without boxes.
        verify: decode the pixels, to find damage that header and end marker do not show.
    """
    file_name = image["file_name"]
    try:
        with open(os.path.join(image_dir, file_name), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                raise BadImageError("large", "")
            data = file.read()
        if check_image(data) != (image["height"], image["width"]):
            raise BadImageError("size", "")
        if verify:
            decode_image(data)
    except OSError:
        tally.skip_image("missing", file_name)
        return None
    except BadImageError as error:
        tally.skip_image(error.reason, file_name)
        return None
    boxes = clean_boxes(annotations, class_index, image["height"], image["width"], tally)
    if not len(boxes) and not keep_empty:
        tally.skip_image("empty", file_name)
        return None
    tally.images += 1
    tally.most_boxes = max(tally.most_boxes, len(boxes))
    for label, is_crowd in boxes[:, 4:].tolist():
        if is_crowd:
            tally.crowd += 1
        else:
            tally.boxes_by_class[int(label)] += 1
    return {
        "image": data,
        "annotation": boxes,
        "image_id": image["id"],
        "file": file_name,
        "height": image["height"],
        "width": image["width"],
    }


def clean_boxes(
    annotations: Sequence[Mapping[str, Any]],
    class_index: Mapping[int, int],
    height: int,
    width: int,
    tally: Tally,
) -> np.ndarray:
    """Return the usable boxes, float32 (n, 6): x1, y1, x2, y2 in pixels within the image, class, iscrowd."""
    rows = []
    for annotation in annotations:
        x, y, box_width, box_height = annotation["bbox"]
        label = class_index.get(annotation["category_id"])
        inside = x >= 0 and y >= 0 and x + box_width <= width and y + box_height <= height
        if inside and label is not None and box_width > 0 and box_height > 0:  # nearly all boxes end here
            rows.append((x, y, x + box_width, y + box_height, label, annotation.get("iscrowd", 0)))
            continue
        x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + box_width, width), min(y + box_height, height)
        if label is None:
            tally.skip_box("unknown_category", annotation["id"])
        elif not math.isfinite(x + y + box_width + box_height):
            tally.skip_box("not_finite", annotation["id"])
        elif box_width <= 0 or box_height <= 0:
            tally.skip_box("degenerate", annotation["id"])
        elif x2 <= x1 or y2 <= y1:
            tally.skip_box("outside", annotation["id"])
        else:
            cut = max(x1 - x, y1 - y, x + box_width - x2, y + box_height - y2)
            tally.clipped_boxes += cut > CLIP_TOLERANCE
            rows.append((x1, y1, x2, y2, label, annotation.get("iscrowd", 0)))
    return np.array(rows, np.float32).reshape(-1, 6)
