"""Divide a COCO file into one file a silo: train_0.json, train_1.json, ... and split.json, a table of them."""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import sys
from typing import Any, Dict, List, Optional, Sequence, Set

from rich.console import Console
from rich.table import Table

from cross_silo.data import partition
from cross_silo.data.coco import CocoDataset, read_coco, write_json, write_subset
from cross_silo.errors import UserError, run_main

SPLIT_NAME = "split.json"
MOST_COLUMNS = 10  # of a table that is still readable
SCHEMES = ("iid", "dirichlet", "quantity", "files")


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line; a flag that the scheme does not use is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", required=True, help="COCO file to divide")
    parser.add_argument("--out", required=True, help="directory for train_{i}.json and split.json")
    parser.add_argument("--num_silos", type=int, help="with --scheme files: as many as there are lists")
    parser.add_argument("--scheme", choices=SCHEMES, default="iid")
    parser.add_argument("--alpha", type=float, help="dirichlet, quantity: evenness, default 0.5; small is uneven")
    parser.add_argument("--label_by", choices=("rarest", "dominant"), help="dirichlet: an image's label")
    parser.add_argument("--min_images", type=int, help="dirichlet, quantity: fewest images of a silo, default 1")
    parser.add_argument("--file_lists", nargs="+", help="files: one text file of image file names a silo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace a split that stands there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    used = {
        "alpha": ("dirichlet", "quantity"),
        "min_images": ("dirichlet", "quantity"),
        "label_by": ("dirichlet",),
        "file_lists": ("files",),
    }
    for flag, schemes in used.items():
        if getattr(args, flag) is not None and args.scheme not in schemes:
            raise UserError(f"--{flag}: is not used by --scheme {args.scheme}; expected {' or '.join(schemes)}")
    if args.scheme == "files":
        if not args.file_lists:
            raise UserError("--scheme files: expected --file_lists, one a silo")
        if args.num_silos not in (None, len(args.file_lists)):
            raise UserError(f"--num_silos: found {args.num_silos}; expected {len(args.file_lists)}, as --file_lists")
        args.num_silos = len(args.file_lists)
    if args.num_silos is None or args.num_silos < 1:
        raise UserError(f"--num_silos: found {args.num_silos}; expected at least 1")
    if args.scheme in used["alpha"]:
        args.alpha = 0.5 if args.alpha is None else args.alpha
        args.min_images = 1 if args.min_images is None else args.min_images
        if not 0 < args.alpha < float("inf"):
            raise UserError(f"--alpha: found {args.alpha}; expected above 0")
        if args.min_images < 1:
            raise UserError(f"--min_images: found {args.min_images}; expected at least 1")
    if args.scheme == "dirichlet":
        args.label_by = args.label_by or "rarest"
    if args.seed < 0:
        raise UserError(f"--seed: found {args.seed}; expected 0 or more")
    return args


def divide(args: argparse.Namespace, dataset: CocoDataset) -> "tuple[partition.Silos, List[str]]":
    """Return each silo's images, and warnings."""
    warnings = []
    count = len(dataset.images)
    needed = args.num_silos * (args.min_images or 1)
    if count < needed:
        raise UserError(f"{dataset.path}: has {count} images; expected at least {needed} for {args.num_silos} silos")
    if args.scheme == "iid":
        return partition.split_iid(count, args.num_silos, args.seed), warnings
    if args.scheme == "quantity":
        silos = partition.split_quantity(count, args.num_silos, args.alpha, args.min_images, args.seed)
        return silos, warnings
    if args.scheme == "files":
        return partition.split_by_lists(dataset, args.file_lists), warnings
    labels = partition.image_labels(dataset, args.label_by)
    share = partition.dominant_share(labels)
    if share > partition.DOMINANCE:
        other = "dominant" if args.label_by == "rarest" else "rarest"
        warnings.append(
            f"one label covers {share:.0%} of the images, so that silos differ little in their labels; "
            f"try --label_by {other} or --scheme quantity"
        )
    return partition.split_dirichlet(labels, args.num_silos, args.alpha, args.min_images, args.seed), warnings


def write(
    args: argparse.Namespace, dataset: CocoDataset, silos: partition.Silos, warnings: List[str]
) -> Dict[str, Any]:
    """Write the files, ``split.json`` last; return its content."""
    os.makedirs(args.out, exist_ok=True)
    split_path = os.path.join(args.out, SPLIT_NAME)
    earlier = [path for path in glob.glob(os.path.join(args.out, "train_*.json")) if _silo_of(path) is not None]
    earlier += [split_path] * os.path.exists(split_path)
    if earlier and not args.overwrite:
        raise UserError(f"--out: {earlier[0]} exists already; give --overwrite to replace the split")
    for path in sorted(
        earlier, key=lambda path: path != split_path
    ):  # split.json first: none is better than a wrong one
        os.remove(path)
    if glob.glob(os.path.join(args.out, "mindrecord_*")):
        warnings.append(f"{args.out} holds mindrecord directories of an earlier split: convert the silos again")
    grouped = dataset.annotations_by_image()
    unknown = len(dataset.annotations) - sum(map(len, grouped.values()))
    if unknown:
        warnings.append(f"{unknown} annotations are of images that {dataset.path} does not list; they are left out")
    table = []
    for index, places in enumerate(silos):
        images = [dataset.images[place] for place in places.tolist()]
        annotations = [annotation for image in images for annotation in grouped[image["id"]]]
        name = f"train_{index}.json"
        write_subset(os.path.join(args.out, name), dataset, images, annotations)
        table.append(
            {"file": name, "images": len(images), "boxes": len(annotations), "classes": _by_class(dataset, annotations)}
        )
    summary = {
        "source": os.path.basename(dataset.path),
        "source_sha256": dataset.sha256,
        "scheme": args.scheme,
        "seed": args.seed,
        "alpha": args.alpha,
        "label_by": args.label_by,
        "min_images": args.min_images,
        "silos": table,
        "warnings": warnings,
    }
    write_json(split_path, summary, indent=1)
    return summary


def _by_class(dataset: CocoDataset, annotations: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, int]]:
    boxes: Dict[int, int] = {category.id: 0 for category in dataset.categories}
    images: Dict[int, Set[int]] = {category.id: set() for category in dataset.categories}
    for annotation in annotations:
        if annotation["category_id"] in boxes:
            boxes[annotation["category_id"]] += 1
            images[annotation["category_id"]].add(annotation["image_id"])
    return {
        category.name: {"boxes": boxes[category.id], "images": len(images[category.id])}
        for category in dataset.categories
    }


def _silo_of(path: str) -> Optional[int]:
    match = re.fullmatch(r"train_(\d+)\.json", os.path.basename(path))
    return int(match[1]) if match else None


def show(summary: Dict[str, Any], console: Console) -> None:
    """Print images and boxes by silo and class ("boxes in images"); the longer of the two runs down the page."""
    rows: List[List[str]] = [["silo", *(row["file"] for row in summary["silos"])]]
    for key in ("images", "boxes"):
        rows.append([key, *(str(row[key]) for row in summary["silos"])])
    for name in summary["silos"][0]["classes"]:
        cells = [row["classes"][name] for row in summary["silos"]]
        rows.append([name, *(f"{cell['boxes']} in {cell['images']}" for cell in cells)])
    if len(rows[0]) > MOST_COLUMNS or len(rows) <= MOST_COLUMNS:
        rows = [list(column) for column in zip(*rows)]
    cut = len(rows[0]) > MOST_COLUMNS
    table = Table(*rows[0][:MOST_COLUMNS], title=f"{summary['scheme']}, seed {summary['seed']}")
    for row in rows[1:]:
        table.add_row(*row[:MOST_COLUMNS])
    console.print(table)
    if cut:
        console.print(f"{len(rows[0]) - MOST_COLUMNS} more columns stand in {SPLIT_NAME}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    dataset = read_coco(args.annotations)
    silos, warnings = divide(args, dataset)
    summary = write(args, dataset, silos, warnings)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(summary))
    else:
        show(summary, Console())
    return 0


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]))
