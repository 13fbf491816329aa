"""Write a COCO file for images with YOLO's text labels, as coco128 has them: images/... and labels/.../*.txt."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict, Optional, Sequence

from rich.console import Console
from rich.table import Table

from cross_silo.data.coco import write_json
from cross_silo.data.yolo_format import REASONS, convert_yolo, read_class_names
from cross_silo.errors import UserError, run_main

NAMES_SHOWN = 3  # of what was left out for one reason; --json gives all


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="directory of the images, e.g. coco128/images/train2017")
    parser.add_argument("--labels", help="directory of the labels; default: --images with images for labels")
    parser.add_argument("--classes", required=True, help="class names: a text file, or YAML with names:")
    parser.add_argument("--out", required=True, help="COCO file to write; file names in it start at --images")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that stands there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.labels is None:
        parts = os.path.normpath(args.images).split(os.sep)
        if "images" not in parts:
            raise UserError(f"--labels: is missing, and --images {args.images} has no part 'images' to replace")
        place = len(parts) - 1 - parts[::-1].index("images")
        args.labels = os.sep.join([*parts[:place], "labels", *parts[place + 1 :]])
    if os.path.exists(args.out) and not args.overwrite:
        raise UserError(f"--out: {args.out} exists already; give --overwrite to replace it")
    return args


def show(summary: Dict[str, Any], console: Console) -> None:
    """Print counts, and what was left out."""
    table = Table("class", "boxes", title=f"{summary['images']} images, {summary['boxes']} boxes")
    for name, count in summary["boxes_by_class"].items():
        if count:
            table.add_row(name, str(count))
    console.print(table)
    if summary["cut_boxes"]:
        console.print(f"{summary['cut_boxes']} boxes crossed the border and were cut there")
    for reason, names in summary["skipped"].items():
        shown = ", ".join(names[:NAMES_SHOWN]) + ", ..." * (len(names) > NAMES_SHOWN)
        console.print(f"{len(names)} left out, {REASONS[reason]}: {shown}", soft_wrap=True, markup=False)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    names = read_class_names(args.classes)
    content, skipped, cut = convert_yolo(args.images, args.labels, names)
    write_json(args.out, content)
    counts = [0] * len(names)
    for annotation in content["annotations"]:
        counts[annotation["category_id"] - 1] += 1
    summary = {
        "out": args.out,
        "images": len(content["images"]),
        "boxes": len(content["annotations"]),
        "boxes_by_class": dict(zip(names, counts)),
        "cut_boxes": cut,
        "skipped": skipped,
    }
    if args.json:
        print(json.dumps(summary))
    else:
        show(summary, Console())
    return 0


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]))
