"""A feature trainer process whose trainer is numpy's; it reads no features. ``NUMPY_TRAINER`` has its arguments."""

import json
import os

import numpy as np

from cross_silo.config.model import make_detector
from cross_silo.errors import run_main
from cross_silo.mistnet import feature_trainer
from cross_silo.mistnet.cut_detector import CutDetector
from cross_silo.mistnet.epochs import EpochTraining
from cross_silo.mistnet.feature_loader import Pool  # noqa: F401 - that it can be imported without MindSpore
from tests.support.faults import around
from tests.support.numpy_trainer import NumpyTrainer


class RestTrainer(NumpyTrainer):
    """Leaves what is before the cut as it is."""

    def __init__(self, *arguments, is_before, **settings):
        self.is_before, self.before = is_before, {}
        super().__init__(*arguments, **settings)

    def set_weights(self, weights, missed_steps=0):
        self.before = {name: np.array(array) for name, array in weights.items() if self.is_before(name)}
        super().set_weights(weights, missed_steps)

    def get_weights(self):
        return {**super().get_weights(), **self.before}

    def final_weights(self):
        return {**super().final_weights(), **self.before}


def build(setting):
    settings = json.loads(os.environ.get("NUMPY_TRAINER", "{}"))
    shapes = {name: array.shape for name, array in setting.weights.items()}
    cut = CutDetector(make_detector(setting.model, len(setting.info.classes)), setting.orders.bits["cut"])

    def is_before(name):
        return cut.is_before(name, cut.cut)

    trainer = RestTrainer("pooled", shapes=shapes, steps_per_epoch=5, is_before=is_before, **settings)

    def measure(before_batch):
        before_batch()
        return {"AP": 0.1, "AP50": trainer.step / 100, "AP75": 0.0, "bits": "clean"}

    return trainer, measure


if __name__ == "__main__":
    around(EpochTraining, "_on_step", after="step")
    around(EpochTraining, "_save", before="saving", after="saved")
    run_main(lambda: feature_trainer.main(build=build))
