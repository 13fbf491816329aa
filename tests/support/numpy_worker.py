"""A worker process whose trainer is numpy's; ``NUMPY_TRAINER`` holds the trainer's arguments as JSON."""

import json
import os
import time

from cross_silo.errors import run_main
from cross_silo.training import worker
from tests.support.numpy_trainer import NumpyTrainer


def build(model, manifest, arguments, validation):
    settings = json.loads(os.environ.get("NUMPY_TRAINER", "{}"))
    measure_seconds = settings.pop("measure_seconds", 0.0)
    trainer = NumpyTrainer(arguments.silo, **settings)

    def measure(before_batch):
        """Measure the trainer's step: 0.01 a step taken."""
        before_batch()
        time.sleep(measure_seconds)
        return {"AP": 0.0, "AP50": trainer.step / 100, "AP75": 0.0}

    return trainer, measure if validation is not None else None


if __name__ == "__main__":
    run_main(lambda: worker.main(build=build))
