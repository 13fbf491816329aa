"""Runs a detector over the images of a COCO set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from cross_silo.data.coco import CocoDataset
from cross_silo.data.image_file import BadImageError, decode_image
from cross_silo.data.transforms import Sample, Transform, apply
from cross_silo.errors import UserError
from cross_silo.evaluation.coco_ap import detections_to_coco

if TYPE_CHECKING:
    from cross_silo.detector import Detector, Predictor


def run_detector(
    predictor: "Predictor",
    detector: "Detector",
    dataset: CocoDataset,
    image_dir: Union[str, "os.PathLike[str]"],
    batch_size: int,
    size: Tuple[int, int],
) -> List[Dict[str, Any]]:
    """Return COCO results, boxes in original pixels, of all images of ``dataset``.

    Args:
        predictor: what ``detector`` made for a network.
        image_dir: directory that the images' file names are relative to.
        batch_size: images a prediction; a last batch that is not full is filled up with grey ones.
        size: height and width in pixels of the network's input.

    Raises:
        UserError: an image is missing, cannot be decoded, or is of another size than the COCO file says.
    """
    transforms = detector.eval_transforms()
    category_ids = [category.id for category in dataset.categories]
    results: List[Dict[str, Any]] = []
    for start in range(0, len(dataset.images), batch_size):
        entries = dataset.images[start : start + batch_size]
        samples = [_prepare(entry, Path(image_dir), transforms) for entry in entries]
        found = predictor(fill_batch(samples, batch_size, size))
        for entry, sample, detections in zip(entries, samples, found):
            original = (entry["height"], entry["width"])
            results += detections_to_coco(detections, sample.scale, sample.pad, original, entry["id"], category_ids)
    return results


def fill_batch(samples: Sequence[Sample], batch_size: int, size: Tuple[int, int]) -> np.ndarray:
    """Return uint8 images (batch_size, height, width, 3); those beyond ``samples`` are grey."""
    batch = np.full((batch_size, *size, 3), 127, np.uint8)
    for place, sample in enumerate(samples):
        batch[place] = sample.image
    return batch


def without_objects(image: np.ndarray, transforms: Sequence[Transform]) -> Sample:
    """Return a decoded image, uint8 RGB (height, width, 3), at the network's size."""
    nothing = np.zeros(0, np.int32)
    sample = Sample(image, np.zeros((0, 4), np.float32), labels=nothing, crowd=nothing.astype(bool))
    return apply(transforms, sample, np.random.default_rng(0))


def _prepare(entry: Mapping[str, Any], image_dir: Path, transforms: Sequence[Transform]) -> Sample:
    """Return an image of the COCO file at the network's size."""
    path = image_dir / entry["file_name"]
    try:
        image = decode_image(path.read_bytes())
    except OSError as error:
        raise UserError(f"image {entry['id']}: {path}: {error.strerror}") from None
    except BadImageError as error:
        raise UserError(f"image {entry['id']}: {path}: {error}") from None
    expected = (entry["height"], entry["width"])
    if image.shape[:2] != expected:
        raise UserError(
            f"image {entry['id']}: {path} is {image.shape[0]} x {image.shape[1]} (height x width), "
            f"expected {expected[0]} x {expected[1]} as the COCO file says"
        )
    return without_objects(image, transforms)
