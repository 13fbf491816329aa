"""``manifest.json`` beside a silo's MindRecord shards: written last, so that its presence says "complete"."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from cross_silo.data.coco import Category, write_json
from cross_silo.errors import UserError

MANIFEST_NAME = "manifest.json"
FORMAT = "cross_silo.mindrecord"
VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One MindRecord file of a silo; its index stands beside it as ``{file}.db``."""

    file: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a directory of MindRecord shards holds."""

    categories: Tuple[Category, ...]
    num_images: int
    num_boxes: int
    """Objects, crowd regions not counted."""
    num_crowd: int
    boxes_by_class: Tuple[int, ...]
    """Objects by contiguous class index."""
    most_boxes: int
    """Largest number of boxes, crowd regions too, of an image."""
    clipped_boxes: int
    """Boxes that crossed the image's border and were cut there."""
    skipped_images: Dict[str, List[str]]
    """File names by reason."""
    skipped_boxes: Dict[str, List[int]]
    """Annotation ids by reason."""
    keep_empty: bool
    """Images without boxes were kept."""
    source: str
    """Name of the COCO file."""
    source_sha256: str
    shards: Tuple[Shard, ...]

    @property
    def num_classes(self) -> int:
        """Object classes, background not counted."""
        return len(self.categories)

    @property
    def category_ids(self) -> Tuple[int, ...]:
        """COCO id by contiguous class index."""
        return tuple(category.id for category in self.categories)


def write_manifest(directory: str, manifest: Manifest) -> None:
    """Write the manifest of ``directory``."""
    content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(manifest)}
    write_json(os.path.join(directory, MANIFEST_NAME), content, indent=1)


def read_manifest(directory: "str | os.PathLike[str]") -> Manifest:
    """Read the manifest of a directory of MindRecord shards and check that the shards are there.

    Raises:
        UserError: no such directory, an unfinished one, a foreign or damaged manifest, a missing or cut shard.
    """
    directory = os.fspath(directory)
    path = os.path.join(directory, MANIFEST_NAME)
    if not os.path.isdir(directory):
        raise UserError(f"{directory}: no such directory; expected MindRecord shards of generate_mindrecord.py")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise UserError(
            f"{directory}: has no {MANIFEST_NAME}: its conversion is unfinished or it is no directory of "
            "MindRecord shards; expected one that generate_mindrecord.py has finished"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as json ({error})") from None
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if found != (FORMAT, VERSION):
        raise UserError(f"{path}: found format {found}; expected {(FORMAT, VERSION)}: convert the silo again")
    manifest = _from_content(path, content)
    for shard in manifest.shards:
        _check_shard(directory, shard)
    return manifest


def _from_content(path: str, content: Dict[str, Any]) -> Manifest:
    try:
        values = {field.name: content[field.name] for field in dataclasses.fields(Manifest)}
        values["categories"] = tuple(Category(**entry) for entry in values["categories"])
        values["shards"] = tuple(Shard(**entry) for entry in values["shards"])
        values["boxes_by_class"] = tuple(values["boxes_by_class"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged ({error!r}): convert the silo again") from None
    return Manifest(**values)


def _check_shard(directory: str, shard: Shard) -> None:
    path = os.path.join(directory, shard.file)
    size = os.path.getsize(path) if os.path.isfile(path) else None
    if size != shard.bytes:
        found = "nothing" if size is None else f"{size} bytes"
        raise UserError(f"{path}: found {found}; expected a shard of {shard.bytes} bytes: convert the silo again")
    if not os.path.isfile(f"{path}.db"):
        raise UserError(f"{path}.db: found nothing; expected the shard's index: convert the silo again")
