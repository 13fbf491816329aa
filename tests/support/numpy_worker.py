"""A worker process whose trainer is numpy's; ``NUMPY_TRAINER`` holds the trainer's arguments as JSON.

``FAULT`` may have it killed at a point of a round.
"""

import json
import os
import time

from cross_silo.errors import run_main
from cross_silo.protocol.client import AggregationClient
from cross_silo.training import session, worker
from cross_silo.training.progress import Progress
from tests.support.faults import around, send_half
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


def arm():
    """Put the points of a round into the worker's code."""
    around(AggregationClient, "start_round", after="joined")
    around(Progress, "on_step", after="training")
    around(session, "save_state", before="saving", after="saved")
    around(AggregationClient, "push", after="pushed")
    exchange = AggregationClient._exchange

    def exchange_or_break_off(client, path, body, *arguments, **options):
        if path == "/updateModel":
            send_half(client._host, client._port, path, body)
        return exchange(client, path, body, *arguments, **options)

    AggregationClient._exchange = exchange_or_break_off


if __name__ == "__main__":
    if "FAULT" in os.environ:
        arm()
    run_main(lambda: worker.main(build=build))
