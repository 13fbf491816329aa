"""A worker of chaos.py: it adds a number of its silo's own to every weight, so that sums tell who is in them."""

from __future__ import annotations

import argparse
import random
import time
from typing import Callable, Dict, Mapping, Optional, Tuple

import numpy as np

from cross_silo.config.model import Model
from cross_silo.data.coco import CocoDataset
from cross_silo.data.manifest import Manifest
from cross_silo.errors import run_main
from cross_silo.training import worker
from cross_silo.training.trainer import StepRecord, Weights

SHAPES = {"head.weight": (64, 32), "head.bias": (32,)}
STEPS = 3
LONGEST_STEP = 0.1
"""Seconds."""


def number_of(silo: str) -> int:
    """Return the silo's index, from its name."""
    return int(silo.rpartition("_")[2])


def samples_of(silo: str) -> int:
    """Return the silo's images."""
    return 10 * (1 + number_of(silo))


class AddingTrainer:
    """Adds 1, 10, 100, ... for silo 0, 1, 2, ... in each round, whatever happened before."""

    def __init__(self, silo: str) -> None:
        self.num_samples = samples_of(silo)
        self.steps_per_epoch = STEPS
        self.step = 0
        self.wait_seconds = 0.0
        self._adds = np.float32(10 ** number_of(silo))
        self._weights = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}

    def shapes(self) -> Dict[str, Tuple[int, ...]]:
        """Shape of each federated tensor."""
        return dict(SHAPES)

    def kinds(self) -> Dict[str, str]:
        """All are trainable."""
        return dict.fromkeys(SHAPES, "trainable")

    def get_weights(self) -> Dict[str, np.ndarray]:
        """The model's tensors now."""
        return {name: array.copy() for name, array in self._weights.items()}

    def final_weights(self) -> Dict[str, np.ndarray]:
        """No moving average is kept."""
        return self.get_weights()

    def set_weights(self, weights: Weights, missed_steps: int = 0) -> None:
        """Copy the model's tensors."""
        self._weights = {name: np.array(weights[name], np.float32).reshape(shape) for name, shape in SHAPES.items()}

    def train(self, steps: int, on_step: Callable[[StepRecord], None]) -> None:
        """Add, after a while."""
        for _ in range(steps):
            time.sleep(random.uniform(0, LONGEST_STEP))
            self.step += 1
            on_step(StepRecord(self.step, 1.0))
        self._weights = {name: array + self._adds for name, array in self._weights.items()}

    def state(self) -> Dict[str, np.ndarray]:
        """There is none."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray], step: int) -> None:
        """Go on from ``step``."""
        self.step = step


def build(
    model: Model, manifest: Manifest, arguments: argparse.Namespace, validation: Optional[CocoDataset]
) -> worker.Built:
    """Return the trainer."""
    return AddingTrainer(arguments.silo), None


if __name__ == "__main__":
    run_main(lambda: worker.main(build=build))
