"""Images a second of the converter, beside a loop that writes one row a call and beside reading the files alone."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from cross_silo.data.coco import CocoDataset, read_coco, write_json
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.synthetic import draw_image
from cross_silo.data.textures import TRAINING
from cross_silo.errors import UserError, run_main
from cross_silo.runtime import prepare

DRAWN_IMAGES = 200  # different ones; the rest are copies of them
DRAWN_SIZE = (240, 320)


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", help="COCO file; without it images are drawn")
    parser.add_argument("--image_dir", help="its images")
    parser.add_argument("--num_images", type=int, default=5840, help="copies are made up to this number")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    parser.add_argument("--work_dir", help="where copies and shards are written for a while; default: TMPDIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args(argv)
    if (args.annotations is None) != (args.image_dir is None):
        raise UserError("--annotations, --image_dir: found one; expected both or none")
    if min(args.num_images, args.shards, args.repeats) < 1:
        raise UserError("--num_images, --shards, --repeats: expected at least 1 each")
    return args


def draw(directory: str) -> CocoDataset:
    """Draw images into ``directory`` and return their COCO file."""
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    height, width = DRAWN_SIZE
    for index in range(DRAWN_IMAGES):
        pixels, objects = draw_image(height, width, 3, 0, index, TRAINING)
        Image.fromarray(pixels).save(os.path.join(directory, f"{index}.jpg"), quality=90)
        images.append({"id": index, "file_name": f"{index}.jpg", "height": height, "width": width})
        for drawn in objects:
            place = {"id": len(annotations), "image_id": index, "category_id": drawn.label}
            annotations.append({**place, "bbox": list(drawn.box)})
    path = os.path.join(directory, "drawn.json")
    categories = [{"id": index, "name": str(index)} for index in range(3)]
    write_json(path, {"images": images, "annotations": annotations, "categories": categories})
    return read_coco(path)


def multiply(dataset: CocoDataset, image_dir: str, num_images: int, directory: str) -> CocoDataset:
    """Copy the images over and over into ``directory`` up to a number; return their COCO file."""
    grouped = dataset.annotations_by_image()
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for index in range(num_images):
        image = dataset.images[index % len(dataset.images)]
        name = f"{index}{os.path.splitext(image['file_name'])[1]}"
        shutil.copyfile(os.path.join(image_dir, image["file_name"]), os.path.join(directory, name))
        images.append({**image, "id": index, "file_name": name})
        for annotation in grouped[image["id"]]:
            annotations.append({**annotation, "id": len(annotations), "image_id": index})
    path = os.path.join(directory, "copies.json")
    write_json(path, {**dataset.source, "images": images, "annotations": annotations})
    return read_coco(path)


def write_row_by_row(dataset: CocoDataset, image_dir: str, directory: str, shards: int) -> None:
    """The loop to beat: no checks, no manifest, nothing waits for the disk, one row a call."""
    from mindspore.mindrecord import FileWriter

    os.makedirs(directory)
    writer = FileWriter(os.path.join(directory, "rows.mindrecord"), shards)
    schema = {
        "image_id": {"type": "int32"},
        "image": {"type": "bytes"},
        "annotation": {"type": "int32", "shape": [-1, 6]},
    }
    writer.add_schema(schema, "rows")
    grouped = dataset.annotations_by_image()
    for image in dataset.images:
        with open(os.path.join(image_dir, image["file_name"]), "rb") as file:
            data = file.read()
        boxes = []
        for annotation in grouped[image["id"]]:
            x, y, width, height = annotation["bbox"]
            label = dataset.class_index[annotation["category_id"]]
            boxes.append([x, y, x + width, y + height, label, annotation.get("iscrowd", 0)])
        annotation = np.array(boxes, np.int32).reshape(-1, 6)
        writer.write_raw_data([{"image_id": image["id"], "image": data, "annotation": annotation}])
    writer.commit()


def read_alone(dataset: CocoDataset, image_dir: str) -> None:
    """The floor: only the reading of the files."""
    for image in dataset.images:
        with open(os.path.join(image_dir, image["file_name"]), "rb") as file:
            file.read()


def cpu_time() -> float:
    """Return the processor seconds of this process and of the ended ones that it has started."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(args: argparse.Namespace, directory: str) -> Dict[str, Any]:
    """Time the three, by turns, so that what else the machine does meets all of them."""
    copies = os.path.join(directory, "copies")
    drawn = os.path.join(directory, "drawn")
    os.makedirs(copies)
    os.makedirs(drawn)
    source = read_coco(args.annotations) if args.annotations else draw(drawn)
    dataset = multiply(source, args.image_dir or drawn, args.num_images, copies)
    out = os.path.join(directory, "out")
    works: Dict[str, Callable[[], Any]] = {
        "reading alone": lambda: read_alone(dataset, copies),
        "row by row": lambda: write_row_by_row(dataset, copies, out, args.shards),
        "converter": lambda: write_shards(dataset, copies, out, args.shards, keep_empty=True),
    }
    seconds: Dict[str, List[float]] = {name: [] for name in works}
    cpu_seconds: Dict[str, List[float]] = {name: [] for name in works}
    for _ in range(args.repeats):
        for name, work in works.items():
            started, cpu_started = time.perf_counter(), cpu_time()
            work()
            seconds[name].append(time.perf_counter() - started)
            cpu_seconds[name].append(cpu_time() - cpu_started)
            shutil.rmtree(out, ignore_errors=True)
    rates = {name: args.num_images / statistics.median(times) for name, times in seconds.items()}
    return {
        "images": args.num_images,
        "bytes": sum(os.path.getsize(os.path.join(copies, image["file_name"])) for image in dataset.images),
        "shards": args.shards,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "cpu_seconds": {name: round(statistics.median(times), 3) for name, times in cpu_seconds.items()},
        "ratio": round(rates["converter"] / rates["row by row"], 2),
    }


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the benchmark."""
    args = parse(argv)
    prepare()
    import mindspore.mindrecord  # noqa: F401 - its second belongs to none of the three

    with tempfile.TemporaryDirectory(dir=args.work_dir) as directory:
        result = measure(args, directory)
    if args.json:
        print(json.dumps(result))
        return 0
    table = Table("", "images/s", "CPU seconds", title=f"{result['images']} images, {result['bytes'] / 1e6:.0f} MB")
    for name, rate in result["images_per_second"].items():
        table.add_row(name, f"{rate:.0f}", f"{result['cpu_seconds'][name]:.2f}")
    table.caption = f"converter to row by row: {result['ratio']:.1f}"
    Console().print(table)
    return 0


if __name__ == "__main__":
    run_main(lambda: main(sys.argv[1:]))
