"""Write a synthetic COCO data set: shapes of random colour, texture, size and overlap; the class is the shape."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cross_silo.data.coco import write_json
from cross_silo.data.synthetic import SHAPES, draw_image
from cross_silo.data.textures import PUBLIC, TRAINING, VALIDATION
from cross_silo.errors import UserError, run_main

JPEG_QUALITY = 90
SMALLEST_SIDE = 48  # pixels: below, the smallest shapes are a few pixels and cannot be told apart


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="directory for images/ and annotations.json")
    parser.add_argument("--num_images", type=int, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(160, 160), metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classes", type=int, default=3, help=f"how many of: {', '.join(SHAPES)}")
    look = parser.add_mutually_exclusive_group()
    look.add_argument("--validation", action="store_true", help="other random numbers and other kinds of background")
    look.add_argument("--public", action="store_true", help="other textures of objects, too: to pre-train on")
    parser.add_argument("--overwrite", action="store_true", help="replace a data set that stands there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if args.num_images < 1:
        raise UserError(f"--num_images: found {args.num_images}; expected at least 1")
    if min(args.size) < SMALLEST_SIDE:
        raise UserError(f"--size: found {args.size[0]} {args.size[1]}; expected at least {SMALLEST_SIDE} each")
    if not 3 <= args.classes <= len(SHAPES):
        raise UserError(f"--classes: found {args.classes}; expected 3 to {len(SHAPES)}")
    if args.seed < 0:
        raise UserError(f"--seed: found {args.seed}; expected 0 or more")
    return args


def make(args: argparse.Namespace) -> Dict[str, Any]:
    """Write the images, then the annotations; return the summary."""
    annotations_path = os.path.join(args.out, "annotations.json")
    if os.path.exists(annotations_path):
        if not args.overwrite:
            raise UserError(f"--out: {annotations_path} exists already; give --overwrite to replace it")
        os.remove(annotations_path)  # written last: its presence says that the images are complete
    os.makedirs(os.path.join(args.out, "images"), exist_ok=True)
    names = list(SHAPES)[: args.classes]
    height, width = args.size
    look = VALIDATION if args.validation else PUBLIC if args.public else TRAINING
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    started = time.perf_counter()
    progress = Console(stderr=True)
    for index in track(range(args.num_images), "drawing", console=progress, disable=not progress.is_terminal):
        pixels, objects = draw_image(height, width, args.classes, args.seed, index, look)
        file_name = f"{index:06d}.jpg"
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=JPEG_QUALITY)
        with open(os.path.join(args.out, "images", file_name), "wb") as file:
            file.write(encoded.getbuffer())
        images.append({"id": index + 1, "file_name": file_name, "height": height, "width": width})
        for drawn in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": drawn.label + 1,
                    "bbox": list(drawn.box),
                    "area": drawn.area,
                    "iscrowd": 0,
                }
            )
    write_json(
        annotations_path,
        {
            "info": {
                "description": "synthetic shapes",
                "seed": args.seed,
                "validation": args.validation,
                "public": args.public,
            },
            "images": images,
            "annotations": annotations,
            "categories": [{"id": index + 1, "name": name} for index, name in enumerate(names)],
        },
    )
    counts = [0] * args.classes
    for annotation in annotations:
        counts[annotation["category_id"] - 1] += 1
    return {
        "annotations": annotations_path,
        "image_dir": os.path.join(args.out, "images"),
        "images": len(images),
        "boxes": dict(zip(names, counts)),
        "seconds": round(time.perf_counter() - started, 3),
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    args = parse(argv)
    summary = make(args)
    if args.json:
        print(json.dumps(summary))
        return 0
    table = Table("class", "boxes", title=f"{summary['images']} images in {summary['seconds']:.1f} s")
    for name, count in summary["boxes"].items():
        table.add_row(name, str(count))
    console = Console()
    console.print(table)
    console.print(summary["annotations"], soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]))
