"""Makes a silo's mindrecord_{i} of its Dataset's directory on first use; later uses find it unchanged.

``python -m cross_silo.sedna.dataset_dir --dataset /data/1/COCO --mindrecord_dir DIR/mindrecord_0``
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from cross_silo import runtime
from cross_silo.data.coco import read_coco, write_json
from cross_silo.data.manifest import MANIFEST_NAME, read_manifest
from cross_silo.data.yolo_format import read_class_names
from cross_silo.errors import UserError, run_main
from cross_silo.launch.record import read_json
from cross_silo.launch.record import write_json as write_record
from cross_silo.sedna.layouts import VAL, Layout, coco_content, find_layout

SHARDS = 4
CONVERTIBLE = ("", "dir", "mindrecord")


def prepare(dataset: str, directory: str, format: str = "", classes: Sequence[str] = ()) -> str:
    """Make ``directory`` (mindrecord_{i}) of ``dataset`` where it is not there yet, or not of it; say what was done.

    Imports MindSpore where something is converted.

    Raises:
        UserError: ``dataset`` holds nothing that is known, or is not of ``format``.
    """
    if format not in CONVERTIBLE:
        raise UserError(
            f"dataset format({format}) has no boxes to train a detector on; expected dir (COCO json, or images and "
            "labels as coco128 has them) or mindrecord"
        )
    layout = find_layout(dataset)
    if layout.mindrecord:
        return _link(layout, Path(directory))
    if format == "mindrecord":
        raise UserError(f"{dataset}: has no {MANIFEST_NAME}, but its format is mindrecord; expected MindRecord shards")
    stamp_file = Path(f"{directory}.source.json")
    stamp = _stamp(dataset, classes)
    if (Path(directory) / MANIFEST_NAME).is_file() and read_json(stamp_file) == stamp:
        return f"{directory}: {read_manifest(directory).num_images} images, converted before"
    annotations = f"{directory}.json"
    write_coco(dataset, annotations, layout, classes)
    runtime.prepare()
    import mindspore.mindrecord  # noqa: F401 - its writer forks, which must not import it first

    from cross_silo.data.mindrecord_writer import write_shards

    coco = read_coco(annotations)
    shards = max(1, min(SHARDS, len(coco.images)))
    manifest = write_shards(coco, dataset, directory, shards=shards, overwrite=True)
    write_record(stamp_file, stamp)
    return f"{directory}: {manifest.num_images} images, {manifest.num_boxes} boxes"


def write_coco(dataset: str, annotations: str, layout: Layout, classes: Sequence[str] = ()) -> None:
    """Write a COCO file for ``dataset``, whose file names are relative to it."""
    Path(annotations).parent.mkdir(parents=True, exist_ok=True)
    write_json(annotations, coco_content(dataset, layout, tuple(classes)))


def _link(layout: Layout, directory: Path) -> str:
    """Let ``directory`` lead to the shards that are there already."""
    manifest = read_manifest(layout.mindrecord)
    target = Path(layout.mindrecord).resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    if directory.is_symlink() and directory.resolve() != target:
        directory.unlink()
    if not directory.exists():
        directory.symlink_to(target, target_is_directory=True)
    if directory.resolve() != target:
        raise UserError(f"{directory}: is there already and is not {target}; remove it, or take another --run_dir")
    return f"{directory}: {manifest.num_images} images in {target}"


def _stamp(dataset: str, classes: Sequence[str]) -> Dict[str, Any]:
    """Return what changes when files of ``dataset`` are added, removed or written."""
    files, size, newest = 0, 0, 0
    for folder, _, names in os.walk(dataset):
        for name in names:
            found = os.stat(os.path.join(folder, name))
            files, size, newest = files + 1, size + found.st_size, max(newest, found.st_mtime_ns)
    return {"dataset": dataset, "files": files, "bytes": size, "newest": newest, "classes": list(classes)}


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.sedna.dataset_dir", description=__doc__)
    parser.add_argument("--dataset", required=True, help="the Dataset's directory")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--mindrecord_dir", help="directory to make: mindrecord_{i}")
    target.add_argument("--annotations", help="write only a COCO file of its held-out part, for an evaluation")
    parser.add_argument("--format", default="", help="the Dataset's format; found out if not given")
    parser.add_argument("--classes", default="", help="class names of YOLO's labels: a text file, or YAML with names:")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    classes = read_class_names(arguments.classes) if arguments.classes else []
    if arguments.annotations:
        layout = find_layout(arguments.dataset, VAL)
        if layout.mindrecord:
            raise UserError(f"{arguments.dataset}: holds MindRecord shards; expected images with a COCO json or labels")
        write_coco(arguments.dataset, arguments.annotations, layout, classes)
        print(f"{arguments.annotations}: {len(read_coco(arguments.annotations).images)} images")
    else:
        print(prepare(arguments.dataset, arguments.mindrecord_dir, arguments.format, classes))
    return 0


if __name__ == "__main__":
    run_main(main)
