"""A worker process whose trainer is numpy's; ``NUMPY_TRAINER`` holds the trainer's arguments as JSON."""

import json
import os

from cross_silo.errors import run_main
from cross_silo.training import worker
from tests.support.numpy_trainer import NumpyTrainer


def build(model, manifest, arguments):
    return NumpyTrainer(arguments.silo, **json.loads(os.environ.get("NUMPY_TRAINER", "{}")))


if __name__ == "__main__":
    run_main(lambda: worker.main(build=build))
