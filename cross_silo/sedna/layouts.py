"""What a Dataset's directory holds: MindRecord shards, a COCO json, or YOLO's text labels as coco128 has them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from cross_silo.data.coco import read_coco
from cross_silo.data.manifest import MANIFEST_NAME
from cross_silo.data.yolo_format import IMAGE_ENDINGS, convert_yolo, read_class_names
from cross_silo.errors import UserError
from cross_silo.sedna.coco_classes import COCO_CLASSES

TRAIN, VAL = "train", "val"
"""Which part of a directory with several is wanted."""
LOOKED_FOR = (
    f"{MANIFEST_NAME} (MindRecord shards); *.json or annotations/*.json (COCO); "
    "images/ beside labels/, here or one directory below (coco128's layout)"
)
CLASS_FILES = ("classes.txt", "data.yaml", "coco128.yaml", "coco.yaml")


@dataclass(frozen=True)
class Layout:
    """Where in a directory the images and what is known of them are."""

    coco: str = ""
    """COCO json."""
    images: str = ""
    """Directory that file names are relative to."""
    labels: str = ""
    """YOLO's labels."""
    mindrecord: str = ""
    """Directory with a manifest."""


def find_layout(root: str, part: str = TRAIN) -> Layout:
    """Return what ``root`` holds.

    Raises:
        UserError: nothing that is known, naming what was looked for; or several parts, none of which is ``part``.
    """
    directory = Path(root)
    if not directory.is_dir():
        raise UserError(f"{root}: {'not a directory' if directory.exists() else 'no such directory'}")
    if (directory / MANIFEST_NAME).is_file():
        return Layout(mindrecord=root)
    annotations = _find_coco(directory, part)
    if annotations is not None:
        return Layout(coco=str(annotations), images=str(_find_images(directory, annotations)))
    for base in [directory, *_directories(directory)]:
        if (base / "images").is_dir() and (base / "labels").is_dir():
            split = _split(base / "images", part)
            return Layout(images=str(base / "images" / split), labels=str(base / "labels" / split))
    raise UserError(f"{root}: holds nothing that is known; looked for {LOOKED_FOR}")


def coco_content(root: str, layout: Layout, classes: Tuple[str, ...] = ()) -> Dict[str, Any]:
    """Return a COCO file's content whose file names are relative to ``root``.

    Args:
        classes: names of the classes of YOLO's labels; empty: those of a file beside them, else COCO's 80.
    """
    if layout.coco:
        content: Dict[str, Any] = dict(read_coco(layout.coco).source)
    else:
        content, _, _ = convert_yolo(layout.images, layout.labels, list(classes or class_names(layout)))
    prefix = os.path.relpath(layout.images, root)
    images: List[Dict[str, Any]] = content["images"]
    content["images"] = [
        {**image, "file_name": os.path.normpath(os.path.join(prefix, image["file_name"]))} for image in images
    ]
    return content


def class_names(layout: Layout) -> Tuple[str, ...]:
    """Return the names of the classes of YOLO's labels: of a file beside images and labels, else COCO's."""
    base = Path(layout.labels)
    while base.name != "labels":
        base = base.parent
    for file in CLASS_FILES:
        if (base.parent / file).is_file():
            return tuple(read_class_names(str(base.parent / file)))
    return COCO_CLASSES


def _find_coco(root: Path, part: str) -> Optional[Path]:
    found = [file for folder in (root, root / "annotations") for file in sorted(folder.glob("*.json"))]
    found = [file for file in found if _is_coco(file)]
    if len(found) > 1:
        named = [file for file in found if part in file.stem]
        if len(named) != 1:
            raise UserError(
                f"{root}: holds several COCO files ({', '.join(file.name for file in found)}); "
                f"expected one, or one with {part!r} in its name"
            )
        found = named
    return found[0] if found else None


def _is_coco(file: Path) -> bool:
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def _find_images(root: Path, annotations: Path) -> Path:
    """Return the directory in which the first image of a COCO file stands."""
    images = read_coco(annotations).images
    if not images:
        raise UserError(f"{annotations}: names no images")
    name = images[0]["file_name"]
    stem = annotations.stem.replace("instances_", "")
    folders = [annotations.parent, root, root / "images", root / stem, root / "images" / stem]
    for folder in folders:
        if (folder / name).is_file():
            return folder
    raise UserError(f"{annotations}: its image {name} was looked for in {', '.join(map(str, folders))}; found nowhere")


def _split(images: Path, part: str) -> str:
    """Return the directory below ``images`` that is ``part``; empty where the images stand in it themselves."""
    if any(entry.suffix.lower() in IMAGE_ENDINGS for entry in images.iterdir()):
        return ""
    names = [entry.name for entry in _directories(images)]
    wanted = [name for name in names if name.startswith(part)] if len(names) > 1 else names
    if len(wanted) != 1:
        raise UserError(f"{images}: holds {', '.join(names) or 'nothing'}; expected images, or one directory {part}*")
    return wanted[0]


def _directories(folder: Path) -> List[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
