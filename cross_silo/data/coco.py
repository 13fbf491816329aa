"""COCO detection annotations, checked at the door (format: https://cocodataset.org/#format-data)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

from cross_silo.errors import UserError

PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Category:
    """An object class."""

    id: int
    """Its id in the COCO file."""
    name: str
    index: int
    """Contiguous from 0, by ascending id: the label that the network sees."""


@dataclass(frozen=True)
class CocoDataset:
    """A COCO file whose structure is sound. Boxes may still be degenerate, outside or of unknown classes."""

    path: str
    sha256: str
    """Of the file's bytes."""
    images: List[Dict[str, Any]]
    annotations: List[Dict[str, Any]]
    """``bbox`` is x, y, width, height in pixels of the image."""
    categories: Tuple[Category, ...]
    """By ascending id."""
    source: Dict[str, Any] = field(repr=False)
    """The whole file: what a subset of it carries over."""

    @property
    def class_index(self) -> Dict[int, int]:
        """Contiguous class index by COCO category id."""
        return {category.id: category.index for category in self.categories}

    def annotations_by_image(self) -> Dict[int, List[Dict[str, Any]]]:
        """Annotations by image id, for every image of the file; those of unknown images are left out."""
        grouped: Dict[int, List[Dict[str, Any]]] = {image["id"]: [] for image in self.images}
        for annotation in self.annotations:
            if annotation["image_id"] in grouped:
                grouped[annotation["image_id"]].append(annotation)
        return grouped


def read_coco(path: "str | os.PathLike[str]") -> CocoDataset:
    """Read a COCO detection file.

    Raises:
        UserError: the file cannot be read, or its structure is wrong; names the file and the id.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
        source = json.loads(data)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a COCO json file") from None
    except ValueError as error:
        raise UserError(f"{path}: is not json ({error}); expected a COCO json file") from None
    if not isinstance(source, dict):
        raise UserError(f"{path}: found a json {type(source).__name__}; expected an object with {PARTS}")
    for part in PARTS:
        if not isinstance(source.get(part), list):
            raise UserError(f"{path}: has no list {part!r}; expected COCO's {', '.join(PARTS)}")
        for place, entry in enumerate(source[part]):
            if not isinstance(entry, dict) or not _is_integer(entry.get("id")):
                raise UserError(f"{path}: {part}[{place}]: found {_short(entry)}; expected an integer id")
        _refuse_repeated(path, part, [entry["id"] for entry in source[part]])
    for image in source["images"]:
        _check_image(path, image)
    for annotation in source["annotations"]:
        _check_annotation(path, annotation)
    return CocoDataset(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        images=source["images"],
        annotations=source["annotations"],
        categories=_categories(path, source["categories"]),
        source=source,
    )


def write_subset(
    path: str, dataset: CocoDataset, images: List[Dict[str, Any]], annotations: List[Dict[str, Any]]
) -> None:
    """Write some of a file's images and annotations as a COCO file; all else is carried over.

    The file appears whole or not at all.
    """
    write_json(path, {**dataset.source, "images": images, "annotations": annotations})


def write_json(path: str, value: Any, indent: "int | None" = None) -> None:
    """Write ``value`` as json beside ``path``, on disk, then under its name."""
    beside = f"{path}.partial"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=indent)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _categories(path: str, entries: List[Dict[str, Any]]) -> Tuple[Category, ...]:
    if not entries:
        raise UserError(f"{path}: has no categories; expected at least one")
    for entry in entries:
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            raise UserError(f"{path}: category {entry['id']}: has no name")
    _refuse_repeated(path, "category names", [entry["name"] for entry in entries])
    ordered = sorted(entries, key=lambda entry: entry["id"])
    return tuple(Category(entry["id"], entry["name"], index) for index, entry in enumerate(ordered))


def _check_image(path: str, image: Dict[str, Any]) -> None:
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        raise UserError(f"{path}: image {image['id']}: has no file_name")
    for side in ("height", "width"):
        if not _is_integer(image.get(side)) or image[side] < 1:
            found = image.get(side)
            raise UserError(f"{path}: image {image['id']}: {side}: found {found!r}; expected pixels")


def _check_annotation(path: str, annotation: Dict[str, Any]) -> None:
    place = f"{path}: annotation {annotation['id']}"
    for key in ("image_id", "category_id"):
        if not _is_integer(annotation.get(key)):
            raise UserError(f"{place}: {key}: found {annotation.get(key)!r}; expected an integer")
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise UserError(f"{place}: bbox: found {_short(box)}; expected [x, y, width, height]")
    if annotation.get("iscrowd", 0) not in (0, 1):
        raise UserError(f"{place}: iscrowd: found {annotation['iscrowd']!r}; expected 0 or 1")


def _refuse_repeated(path: str, part: str, values: List[Any]) -> None:
    if len(set(values)) == len(values):
        return
    seen = set()
    for value in values:
        if value in seen:
            raise UserError(f"{path}: {part}: {value!r} stands there twice; expected each once")
        seen.add(value)


def _is_integer(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63  # what a record's int64 holds


def _is_number(value: Any) -> bool:
    return type(value) is float or _is_integer(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
