"""Runs a detector over the images of a directory, whatever their sizes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from cross_silo.data.image_file import BadImageError, check_image, decode_image
from cross_silo.errors import UserError
from cross_silo.evaluation.coco_ap import detections_to_coco
from cross_silo.evaluation.predict import fill_batch, without_objects

if TYPE_CHECKING:
    from cross_silo.data.transforms import Transform
    from cross_silo.detector import Predictor

Found = Tuple[Path, np.ndarray, List[Dict[str, Any]]]


@dataclass
class Folder:
    """The files of a directory, and which of them turned out to be no images."""

    files: List[Path]
    skipped: Dict[str, str]
    """Reason by file name."""
    predict_seconds: float = 0.0
    """Spent in the network and in suppression, reading and drawing not counted."""

    def read(self) -> Iterator[Tuple[Path, np.ndarray]]:
        """Yield each image's path and pixels, uint8 RGB (height, width, 3); note the files that are none."""
        for path in self.files:
            try:
                data = path.read_bytes()
                check_image(data)
                yield path, decode_image(data)
            except OSError as error:
                self.skipped[path.name] = error.strerror or str(error)
            except BadImageError as error:
                self.skipped[path.name] = str(error)


def open_folder(directory: Path) -> Folder:
    """Return the files of ``directory``, in the order of their names; those of directories in it are left out.

    Raises:
        UserError: it is no directory, or has no files.
    """
    if not directory.is_dir():
        raise UserError(f"--images {directory}: no such directory")
    files = sorted(path for path in directory.iterdir() if not path.is_dir())
    if not files:
        raise UserError(f"--images {directory}: has no files; expected JPEG or PNG images")
    return Folder(files, {})


def detect_in_folder(
    folder: Folder,
    predictor: "Predictor",
    transforms: "Sequence[Transform]",
    num_classes: int,
    batch_size: int,
    size: Tuple[int, int],
) -> Iterator[Found]:
    """Yield each image's path, pixels and detections.

    Detections have ``label`` (class index), ``bbox`` (x, y, width, height in the image's own pixels) and ``score``.

    Args:
        transforms: from a decoded image to the network's input.
        batch_size: images a prediction.
        size: height and width in pixels of the network's input.
    """
    labels = range(num_classes)

    def detect(batch: Sequence[Tuple[Path, np.ndarray]]) -> Iterator[Found]:
        samples = [without_objects(pixels, transforms) for _, pixels in batch]
        images = fill_batch(samples, batch_size, size)
        began = time.monotonic()
        found = predictor(images)
        folder.predict_seconds += time.monotonic() - began
        for (path, pixels), sample, detections in zip(batch, samples, found):
            results = detections_to_coco(detections, sample.scale, sample.pad, pixels.shape[:2], 0, labels)
            entries = [{"label": e["category_id"], "bbox": e["bbox"], "score": e["score"]} for e in results]
            yield path, pixels, entries

    images = folder.read()
    batch = list(islice(images, batch_size))
    while batch:
        yield from detect(batch)
        batch = list(islice(images, batch_size))
