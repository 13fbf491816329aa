"""A server process that is killed at the point that ``FAULT`` names."""

import os

from cross_silo.aggregation import aggregator, server, service
from cross_silo.aggregation.averaging import WeightedSum
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.models import ModelStore
from cross_silo.errors import run_main
from tests.support.faults import around


def arm():
    """Put the points of a round into the server's code."""
    around(aggregator.Aggregator, "start_round", after="joined")
    around(service, "receive", after="received")
    around(WeightedSum, "add", before="adding", after="added")
    around(os, "fsync", before="syncing")  # of a checkpoint: the file beside its place, then the directory
    around(Job, "save", before="saving", after="saved")
    around(ModelStore, "publish", after="published")


if __name__ == "__main__":
    arm()
    run_main(server.main)
