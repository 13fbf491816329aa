"""A silo's validation set of its own: checked before the worker takes part, measured between rounds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Mapping, Optional, Tuple

from cross_silo.data.coco import CocoDataset, read_coco
from cross_silo.errors import UserError
from cross_silo.report.summary import METRICS

if TYPE_CHECKING:
    from cross_silo.evaluation.network_evaluation import NetworkEvaluation

Measure = Callable[[Callable[[], None]], Mapping[str, float]]
"""Measures the trainer's present weights; the argument is called before each batch and may raise to end it."""


def read_validation(annotations: str, image_dir: str, classes: Tuple[str, ...]) -> Optional[CocoDataset]:
    """Read the silo's validation set; None where it has none.

    Args:
        annotations: path of its COCO json; empty: there is none.
        classes: names of the training data's classes, in order.

    Raises:
        UserError: it cannot be read, has no object or other classes, or an image is missing.
    """
    if not annotations:
        return None
    dataset = read_coco(annotations)
    names = tuple(category.name for category in dataset.categories)
    if names != classes:
        raise UserError(
            f"--val_annotations {annotations}: its classes are {', '.join(names)}, "
            f"those of the training data {', '.join(classes)}"
        )
    if not any(dataset.annotations_by_image().values()):
        raise UserError(f"--val_annotations {annotations}: has no objects; expected at least one")
    for image in dataset.images:
        if not (Path(image_dir) / image["file_name"]).is_file():
            raise UserError(f"--val_image_dir {image_dir}: has no {image['file_name']} (image {image['id']})")
    return dataset


def make_measure(evaluation: "NetworkEvaluation") -> Measure:
    """Return what measures ``evaluation``'s network and tells the numbers that the silo reports."""

    def measure(before_batch: Callable[[], None]) -> Dict[str, float]:
        values = evaluation.measure(before_batch).metrics()
        return {name: values[name] for name in METRICS}

    return measure
