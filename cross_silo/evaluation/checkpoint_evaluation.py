"""Measures checkpoints of one model on one COCO set; the network is built and compiled once."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Union

import numpy as np

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.checkpoint.network import load_weights
from cross_silo.config.model import Model, make_detector
from cross_silo.data.coco import CocoDataset
from cross_silo.detector import Detections
from cross_silo.errors import UserError
from cross_silo.evaluation.coco_ap import Evaluation, evaluate_detections
from cross_silo.evaluation.predict import run_detector

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Measured:
    """What a checkpoint reached."""

    evaluation: Evaluation
    detections: List[Dict[str, Any]]
    """COCO results."""
    info: CheckpointInfo
    seconds: float

    def metrics(self) -> Dict[str, Any]:
        """Return the metrics as plain values: AP, AP50, AP75, APs, APm, APl, classes, images, seconds."""
        values = self.evaluation.as_dict()
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        return {
            **{name: values[name] for name in names},
            "classes": {entry["name"]: {"AP": entry["AP"], "AP50": entry["AP50"]} for entry in values["by_class"]},
            "num_images": values["num_images"],
            "num_detections": values["num_detections"],
            "seconds": round(self.seconds, 3),
        }


class CheckpointEvaluation:
    """A model's network with a held-out set. MindSpore must have been started."""

    def __init__(
        self, model: Model, dataset: CocoDataset, image_dir: PathLike, before_batch: Callable[[], None] = lambda: None
    ) -> None:
        """Build the network; it compiles at the first image.

        Args:
            before_batch: called before each prediction; may raise to end the measurement.

        Raises:
            UserError: the model does not fit the set's classes, or ``image_dir`` is no directory.
        """
        if not os.path.isdir(image_dir):
            raise UserError(
                f"image_dir {os.fspath(image_dir)} is no directory; expected that of the COCO file's images"
            )
        self._dataset = dataset
        self._image_dir = image_dir
        self._config = model.config
        self._detector = make_detector(model, len(dataset.categories))
        self._network = self._detector.build_network()
        self._predictor = self._detector.predictor(self._network)
        self._before_batch = before_batch

    def measure(self, path: PathLike) -> Measured:
        """Load a checkpoint and measure it.

        Raises:
            UserError: the checkpoint cannot be read or is of another model or other classes, or an image is wrong.
        """
        began = time.monotonic()
        weights, info = read_checkpoint(path)
        names = tuple(category.name for category in self._dataset.categories)
        if info.classes and info.classes != names:
            raise UserError(
                f"checkpoint {path}: its classes are {', '.join(info.classes)}, "
                f"those of {self._dataset.path} {', '.join(names)}"
            )
        load_weights(self._network, weights, info, f"checkpoint {path}")
        config = self._config
        size = (config.img_height, config.img_width)
        detections = run_detector(
            self._predict, self._detector, self._dataset, self._image_dir, config.eval_batch_size, size
        )
        evaluation = evaluate_detections(self._dataset, detections)
        return Measured(evaluation, detections, info, time.monotonic() - began)

    def _predict(self, images: np.ndarray) -> List[Detections]:
        self._before_batch()
        return self._predictor(images)
