"""YOLO's text labels (coco128's layout) as a COCO file: one ``class cx cy w h`` a line, of the image's size."""

from __future__ import annotations

import math
import os
from typing import Any, Dict, List, Optional, Tuple

import yaml

from cross_silo.data.image_file import BadImageError, check_image
from cross_silo.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
ROUNDING = 1e-5  # of the image's side: labels have six decimals, so that a box at the border may cross it so far

REASONS = {
    "header": "image: header is not readable as JPEG or PNG",
    "end": "image: no end marker, cut short",
    "no_image": "label file without an image",
    "fields": "label: not five numbers",
    "class": "label: class is not in the list",
    "not_finite": "label: a number is not finite",
    "degenerate": "label: width or height is not above 0",
    "outside": "label: wholly outside the image",
    "repeated": "label: the same line stood there before",
}

Skipped = Dict[str, List[str]]
"""Files, or files with the line's number, by one of ``REASONS``."""


def read_class_names(path: str) -> List[str]:
    """Return the class names by index, of a text file with a name a line or a YAML file with ``names:``."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if path.endswith((".yaml", ".yml")):
            names = yaml.safe_load(text).get("names")
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); expected class names") from None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UserError(f"{path}: names: found keys {list(names)}; expected 0, 1, 2, ...")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{path}: has no class names; expected a name a line, or YAML with names:")
    names = [str(name) for name in names]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: a class name stands there twice; expected each once")
    return names


def convert_yolo(image_dir: str, label_dir: str, names: List[str]) -> Tuple[Dict[str, Any], Skipped, int]:
    """Return the content of a COCO file, what was left out, and how many boxes were cut at the border.

    An image without a label file is one without objects. Ids count from 1 by sorted file name; a category's
    id is its class plus 1.
    """
    for directory in (image_dir, label_dir):
        if not os.path.isdir(directory):
            raise UserError(f"{directory}: no such directory; expected coco128's layout, images/... and labels/...")
    files = _find(image_dir, IMAGE_ENDINGS)
    if not files:
        raise UserError(f"{image_dir}: holds no image; expected {', '.join(IMAGE_ENDINGS)}")
    skipped: Skipped = {}
    stems = {os.path.splitext(name)[0] for name in files}
    for name in _find(label_dir, (".txt",)):
        if os.path.splitext(name)[0] not in stems:
            skipped.setdefault("no_image", []).append(name)
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    cut = 0
    for name in files:
        try:
            with open(os.path.join(image_dir, name), "rb") as file:
                height, width = check_image(file.read())
        except BadImageError as error:
            skipped.setdefault(error.reason, []).append(name)
            continue
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        label_name = f"{os.path.splitext(name)[0]}.txt"
        for category, box, was_cut in _read_labels(label_dir, label_name, len(names), skipped):
            cut += was_cut
            x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": category + 1,
                    "bbox": [round(value, 3) for value in (x, y, w, h)],
                    "area": round(w * h, 3),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}, skipped, cut


def _find(directory: str, endings: Tuple[str, ...]) -> List[str]:
    """Return the files below ``directory`` with these endings, relative to it, sorted."""
    found = []
    for folder, _, names in os.walk(directory):
        relative = os.path.relpath(folder, directory)
        found += [os.path.normpath(os.path.join(relative, n)) for n in names if n.lower().endswith(endings)]
    return sorted(found)


def _read_labels(
    label_dir: str, name: str, num_classes: int, skipped: Skipped
) -> List[Tuple[int, Tuple[float, float, float, float], bool]]:
    """Return (class, box, whether it was cut); the box is x, y, width, height of the image's size, within 0 to 1."""
    try:
        with open(os.path.join(label_dir, name), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    rows = []
    seen = set()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        values = _numbers(fields)
        reason = "repeated" if tuple(fields) in seen else _fault(values, num_classes)
        seen.add(tuple(fields))
        if reason is not None or values is None:
            skipped.setdefault(reason or "fields", []).append(f"{name}:{number}")
            continue
        label, cx, cy, w, h = values
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, 1.0), min(y2, 1.0))
        was_cut = max(-x1, -y1, x2 - 1, y2 - 1) > ROUNDING
        box = (inside[0], inside[1], inside[2] - inside[0], inside[3] - inside[1])
        rows.append((int(label), box, was_cut))
    return rows


def _numbers(fields: List[str]) -> Optional[List[float]]:
    try:
        return [float(field) for field in fields] if len(fields) == 5 else None
    except ValueError:
        return None


def _fault(values: Optional[List[float]], num_classes: int) -> Optional[str]:
    """Return why a label's line cannot be used; None: it can."""
    if values is None:
        return "fields"
    if not all(map(math.isfinite, values)):
        return "not_finite"
    label, cx, cy, w, h = values
    if label not in range(num_classes):
        return "class"
    if w <= 0 or h <= 0:
        return "degenerate"
    if abs(cx - 0.5) >= 0.5 + w / 2 or abs(cy - 0.5) >= 0.5 + h / 2:
        return "outside"
    return None
