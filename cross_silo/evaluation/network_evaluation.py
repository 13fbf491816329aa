"""Measures a network, with the weights that it has, on one COCO set; it compiles at the first image."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Union

import numpy as np

from cross_silo.config.model import ModelConfig
from cross_silo.data.coco import CocoDataset
from cross_silo.errors import UserError
from cross_silo.evaluation.coco_ap import Evaluation, evaluate_detections
from cross_silo.evaluation.predict import run_detector

if TYPE_CHECKING:
    from mindspore import nn

    from cross_silo.detector import Detections, Detector

PathLike = Union[str, "os.PathLike[str]"]
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class Measured:
    """What a network reached."""

    evaluation: Evaluation
    detections: List[Dict[str, Any]]
    """COCO results."""
    seconds: float

    def metrics(self) -> Dict[str, Any]:
        """Return the metrics as plain values: AP, AP50, AP75, APs, APm, APl, classes, images, seconds."""
        values = self.evaluation.as_dict()
        return {
            **{name: values[name] for name in METRICS},
            "classes": {entry["name"]: {"AP": entry["AP"], "AP50": entry["AP50"]} for entry in values["by_class"]},
            "num_images": values["num_images"],
            "num_detections": values["num_detections"],
            "seconds": round(self.seconds, 3),
        }


class NetworkEvaluation:
    """A detector's network with a held-out set. Measuring leaves weights, statistics and training mode as they are."""

    def __init__(
        self, detector: "Detector", network: "nn.Cell", config: ModelConfig, dataset: CocoDataset, image_dir: PathLike
    ) -> None:
        """Prepare. Raises UserError where ``image_dir`` is no directory."""
        check_image_dir(image_dir)
        self._detector = detector
        self._predictor = detector.predictor(network)
        self._config = config
        self._dataset = dataset
        self._image_dir = image_dir

    def measure(self, before_batch: Callable[[], None]) -> Measured:
        """Measure the network as it is now.

        Args:
            before_batch: called before each prediction; may raise to end the measurement.

        Raises:
            UserError: an image is wrong.
        """
        began = time.monotonic()

        def predict(images: np.ndarray) -> "List[Detections]":
            before_batch()
            return self._predictor(images)

        config = self._config
        size = (config.img_height, config.img_width)
        detections = run_detector(predict, self._detector, self._dataset, self._image_dir, config.eval_batch_size, size)
        evaluation = evaluate_detections(self._dataset, detections)
        return Measured(evaluation, detections, time.monotonic() - began)


def check_image_dir(image_dir: PathLike) -> None:
    """Refuse what is no directory. Raises UserError."""
    if not os.path.isdir(image_dir):
        raise UserError(f"image_dir {os.fspath(image_dir)} is no directory; expected that of the COCO file's images")
