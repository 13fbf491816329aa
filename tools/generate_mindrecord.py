"""Convert a silo's COCO file, or those of all silos of a split, to MindRecord shards with a manifest."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cross_silo.data.coco import CocoDataset, read_coco
from cross_silo.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.record import BOX_REASONS, IMAGE_REASONS
from cross_silo.errors import UserError, run_main
from cross_silo.runtime import prepare

CONFIG_KEYS = ("mindrecord_dir", "instance_set", "image_dir")
NAMES_SHOWN = 3  # of what was left out for one reason; all stand in the manifest

Job = Tuple[str, str]
"""COCO file and the directory it becomes."""


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line and the configuration file under it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", help=f"YAML file with {', '.join(CONFIG_KEYS)}; flags of these names win")
    parser.add_argument("--instance_set", help="COCO file of one silo")
    parser.add_argument("--mindrecord_dir", help="directory to make; its last part must be mindrecord_{num}")
    parser.add_argument("--split_dir", help="instead of both: converts every train_{i}.json there to mindrecord_{i}")
    parser.add_argument("--image_dir", help="where the file names of the images start")
    parser.add_argument("--shards", type=int, default=4, help="files a silo")
    parser.add_argument("--keep_empty", action="store_true", help="keep images without boxes")
    parser.add_argument("--verify", action="store_true", help="decode every image, to find damage in its pixels")
    parser.add_argument("--overwrite", action="store_true", help="replace what stands in the directory")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.split_dir and (args.instance_set or args.mindrecord_dir):
        raise UserError("--split_dir: names all silos; expected no --instance_set and --mindrecord_dir beside it")
    if args.config:
        config = _read_config(args.config)
        keys = ("image_dir",) if args.split_dir else CONFIG_KEYS
        for key in keys:
            setattr(args, key, getattr(args, key) or config.get(key))
    for key in ("image_dir",) if args.split_dir else CONFIG_KEYS:
        if not getattr(args, key):
            raise UserError(f"--{key}: is missing; expected the flag, or the key in the file of --config")
    return args


def _read_config(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config: {path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise UserError(f"--config: {path}: found no keys; expected {', '.join(CONFIG_KEYS)}")
    for key in CONFIG_KEYS:
        if not isinstance(config.get(key, ""), str):
            raise UserError(f"--config: {path}: {key}: found {config[key]!r}; expected a path")
    return config


def find_jobs(args: argparse.Namespace) -> List[Job]:
    """Return what is to be converted, in the order of the silos."""
    if args.split_dir is None:
        name = os.path.basename(os.path.normpath(args.mindrecord_dir))
        if not re.fullmatch(r"mindrecord_\d+", name):
            raise UserError(f"mindrecord_dir: its last part is {name!r}; expected mindrecord_{{num}}, num the silo's")
        return [(args.instance_set, args.mindrecord_dir)]
    if not os.path.isdir(args.split_dir):
        raise UserError(f"--split_dir: {args.split_dir}: no such directory")
    matches = [re.fullmatch(r"train_(\d+)\.json", name) for name in os.listdir(args.split_dir)]
    silos = sorted(int(match[1]) for match in matches if match)
    if not silos:
        raise UserError(f"--split_dir: {args.split_dir} holds no train_{{i}}.json; expected those of split_coco.py")
    return [
        (os.path.join(args.split_dir, f"train_{silo}.json"), os.path.join(args.split_dir, f"mindrecord_{silo}"))
        for silo in silos
    ]


def convert(args: argparse.Namespace, job: Job, progress: Progress) -> Dict[str, Any]:
    """Convert one silo; return its row of the summary."""
    source, directory = job
    dataset = read_coco(source)
    started = time.perf_counter()
    manifest = _finished(args, dataset, directory) if args.split_dir and not args.overwrite else None
    converted = manifest is None
    if manifest is None:
        task = progress.add_task(os.path.basename(directory), total=len(dataset.images))
        manifest = write_shards(
            dataset,
            args.image_dir,
            directory,
            shards=args.shards,
            overwrite=args.overwrite,
            verify=args.verify,
            keep_empty=args.keep_empty,
            progress=lambda images: progress.update(task, completed=images),
        )
    seconds = time.perf_counter() - started
    return {
        "mindrecord_dir": os.path.normpath(directory),
        "converted": converted,
        "images": manifest.num_images,
        "boxes": manifest.num_boxes,
        "crowd": manifest.num_crowd,
        "clipped_boxes": manifest.clipped_boxes,
        "skipped_images": {reason: len(names) for reason, names in manifest.skipped_images.items()},
        "skipped_boxes": {reason: len(ids) for reason, ids in manifest.skipped_boxes.items()},
        "seconds": round(seconds, 3),
        "images_per_second": round(len(dataset.images) / seconds, 1) if converted else None,
        "names": _names(manifest),
    }


def _finished(args: argparse.Namespace, dataset: CocoDataset, directory: str) -> Optional[Manifest]:
    """Return the manifest of a silo that an earlier call has converted from the same file in the same way."""
    if not os.path.exists(os.path.join(directory, MANIFEST_NAME)):
        return None
    manifest = read_manifest(directory)
    if (manifest.source_sha256, manifest.keep_empty) == (dataset.sha256, args.keep_empty):
        return manifest
    raise UserError(
        f"{directory}: was made from another {manifest.source} or with another --keep_empty; "
        "give --overwrite to replace it"
    )


def _names(manifest: Manifest) -> List[str]:
    """Return a line for each reason: how many were left out, why, and the first of them."""
    lines = []
    for kind, reasons, skipped in (
        ("images", IMAGE_REASONS, manifest.skipped_images),
        ("boxes", BOX_REASONS, manifest.skipped_boxes),
    ):
        for reason, names in skipped.items():
            shown = ", ".join(map(str, names[:NAMES_SHOWN])) + ", ..." * (len(names) > NAMES_SHOWN)
            lines.append(f"{len(names)} {kind} left out, {reasons[reason]}: {shown}")
    return lines


def show(rows: Sequence[Dict[str, Any]], console: Console) -> None:
    """Print the table, and what was left out."""
    table = Table("silo", "images", "boxes", "crowd", "cut", "no image", "no box", "images/s")
    table.caption = "cut: boxes that crossed the border; no image, no box: left out, for the reasons below"
    for row in rows:
        table.add_row(
            os.path.basename(row["mindrecord_dir"]),
            str(row["images"]),
            str(row["boxes"]),
            str(row["crowd"]),
            str(row["clipped_boxes"]),
            str(sum(row["skipped_images"].values())),
            str(sum(row["skipped_boxes"].values())),
            f"{row['images_per_second']:.0f}" if row["converted"] else "was done",
        )
    console.print(table)
    for row in rows:
        for line in row["names"]:
            console.print(f"{row['mindrecord_dir']}: {line}", soft_wrap=True, markup=False, highlight=False)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    jobs = find_jobs(args)
    prepare()
    import mindspore.mindrecord  # noqa: F401 - takes a second, which is no silo's

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Nothing redirected: forked writers must not meet a stream that another thread has locked.
    quiet = {"disable": not console.is_terminal, "redirect_stdout": False, "redirect_stderr": False}
    with Progress(*columns, console=console, **quiet) as progress:
        rows = [convert(args, job, progress) for job in jobs]
    if args.json:
        print(json.dumps({"silos": rows}))
    else:
        show(rows, Console())
    return 0


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]))
