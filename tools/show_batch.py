"""Draw augmented training batches of a silo, with boxes and class names, as a detector's configuration makes them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Sequence

from PIL import Image

from cross_silo import runtime
from cross_silo.config.model import load_model, make_detector
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError, run_main
from cross_silo.report.drawing import Box, draw

if TYPE_CHECKING:
    from cross_silo.data.batch import Batch

COLUMNS = 4
GAP = 8
"""Pixels between images; batches are twice as far apart."""
FORMATS = (".png", ".jpg", ".jpeg")


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--dataset_dir", required=True, help="a silo's MindRecord directory")
    parser.add_argument("--out", required=True, type=Path, help=f"picture to write: {', '.join(FORMATS)}")
    parser.add_argument("--batches", type=int, default=1, help="batches to draw, below each other (default: 1)")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    if arguments.batches < 1:
        raise UserError(f"--batches is {arguments.batches}, expected at least 1")
    if arguments.out.suffix.lower() not in FORMATS:
        raise UserError(f"--out is {arguments.out}, expected a name that ends in {', '.join(FORMATS)}")
    model = load_model(arguments.config)
    config = model.config
    detector = make_detector(model, read_manifest(arguments.dataset_dir).num_classes)
    runtime.prepare()
    from cross_silo.data.loader import TrainingLoader

    pages: List[Image.Image] = []
    with TrainingLoader(
        arguments.dataset_dir, detector.train_transforms(), config.batch_size, config.num_gts, config.seed
    ) as loader:
        names = [category.name for category in loader.categories]
        epoch = 0
        while len(pages) < arguments.batches:
            for batch in loader.epoch(epoch):
                pages.append(grid([draw(image, boxes) for image, boxes in zip(batch.image, drawn(batch, names))]))
                objects, crowds = int((batch.valid == 1).sum()), int((batch.valid == -1).sum())
                print(
                    f"batch {len(pages)}: images {', '.join(map(str, batch.image_ids.tolist()))}; "
                    f"{objects} objects, {crowds} crowd regions"
                )
                if len(pages) == arguments.batches:
                    break
            epoch += 1
        if loader.overflow_boxes:
            print(f"{loader.overflow_boxes} boxes have found no room: num_gts is {config.num_gts}")
    save(stack(pages), arguments.out)
    print(arguments.out)
    return 0


def drawn(batch: "Batch", names: Sequence[str]) -> List[List[Box]]:
    """Return the boxes of each image of a batch; crowd regions are dashed."""
    result = []
    for boxes, labels, valid in zip(batch.boxes.tolist(), batch.labels.tolist(), batch.valid.tolist()):
        of_image = []
        for (x1, y1, x2, y2), label, kind in zip(boxes, labels, valid):
            if kind:
                text = names[label] if kind == 1 else f"{names[label]} (crowd)"
                of_image.append(Box((x1, y1, x2 - x1, y2 - y1), label, text, dashed=kind == -1))
        result.append(of_image)
    return result


def grid(images: Sequence[Image.Image]) -> Image.Image:
    """Return images of one size in rows of ``COLUMNS``."""
    wide, high = images[0].size
    columns, rows = min(COLUMNS, len(images)), -(-len(images) // COLUMNS)
    page = Image.new("RGB", (columns * (wide + GAP) - GAP, rows * (high + GAP) - GAP), "white")
    for place, image in enumerate(images):
        page.paste(image, (place % COLUMNS * (wide + GAP), place // COLUMNS * (high + GAP)))
    return page


def stack(pages: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of one size below each other."""
    wide, high = pages[0].size
    whole = Image.new("RGB", (wide, len(pages) * (high + 2 * GAP) - 2 * GAP), "white")
    for place, page in enumerate(pages):
        whole.paste(page, (0, place * (high + 2 * GAP)))
    return whole


def save(image: Image.Image, path: Path) -> None:
    """Write a picture, whole or not at all."""
    beside = path.with_name(f".partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.save(beside, compress_level=1)  # four times as fast
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror or error}") from None


if __name__ == "__main__":
    run_main(main)
