"""Measures checkpoints of one model on one COCO set; the network is built and compiled once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Callable, Dict

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.checkpoint.network import load_weights
from cross_silo.config.model import Model, make_detector
from cross_silo.data.coco import CocoDataset
from cross_silo.errors import UserError
from cross_silo.evaluation import network_evaluation
from cross_silo.evaluation.network_evaluation import NetworkEvaluation, PathLike, check_image_dir
from cross_silo.mistnet.inference import as_trained


@dataclass(frozen=True)
class Measured(network_evaluation.Measured):
    """What a checkpoint reached."""

    info: CheckpointInfo


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
        check_image_dir(image_dir)
        self._dataset = dataset
        self._detector = make_detector(model, len(dataset.categories))
        self._network = self._detector.build_network()
        self._config = model.config
        self._image_dir = image_dir
        self._before_batch = before_batch
        self._evaluations: Dict[str, NetworkEvaluation] = {}  # by what checkpoints say of bits at a cut

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
        measured = self._evaluation(info).measure(self._before_batch)
        return Measured(measured.evaluation, measured.detections, time.monotonic() - began, info)

    def _evaluation(self, info: CheckpointInfo) -> NetworkEvaluation:
        key = json.dumps(info.mistnet)
        if key not in self._evaluations:
            detector = as_trained(self._detector, info)
            self._evaluations[key] = NetworkEvaluation(
                detector, self._network, self._config, self._dataset, self._image_dir
            )
        return self._evaluations[key]
