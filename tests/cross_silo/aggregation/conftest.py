"""An aggregator served over loopback inside the test's process, with a real Redis."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.job_routes import JobRoutes
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.rounds import Rounds
from cross_silo.aggregation.service import EngineRoutes
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.checkpoint import CheckpointInfo
from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import FederatedConfig, Round
from cross_silo.protocol.access import Access
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.http_service import HttpService
from cross_silo.protocol.layout import largest_message
from cross_silo.protocol.retry import RetryPolicy

WEIGHTS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "bn.moving_mean": np.float32([0.5, -0.5]),
    "scale": np.float32(3).reshape(()),
}


class ServedJob:
    """A job, for two silos unless told otherwise, with all the aggregator's parts but its process."""

    def __init__(self, store, directory: Path, config: FederatedConfig) -> None:
        self.store = store
        self.disk_error = None
        self.disk = threading.Event()
        self.disk.set()
        self.job = Job(config, WEIGHTS, CheckpointInfo(classes=("cat", "dog")), directory, "i_test")
        guarded = GuardedStore(store)
        self.leases = Leases(guarded, config.lease, config.silo_names, config.num_silos, time.monotonic)
        self.models = ModelStore(self.job.sizes)
        self.models.load(WEIGHTS, 0)
        rounds = Rounds(config.round, config.fl_iteration_num, time.monotonic, known=self.leases.expected)
        self.aggregator = Aggregator(rounds, self.leases, self.models, self.save, aggregation=config.aggregation)
        pool = UploadPool(config.round.max_uploads, largest_message(self.job.sizes))
        routes = EngineRoutes(self.aggregator, self.job, pool).routes()
        routes.update(JobRoutes(self.aggregator, self.job).routes())
        access = Access(config, SERVER, (SILO,), also={"/job": (OPERATOR,)})
        self.service = HttpService("127.0.0.1:0", "--http_server_address", routes, access)
        self.service.start()
        self.address = self.service.address
        self.stop = threading.Event()
        self.closer = threading.Thread(target=self.aggregator.close_rounds, args=(self.stop,), daemon=True)
        self.closer.start()

    @property
    def rounds(self) -> Rounds:
        return self.aggregator.rounds

    def save(self, round, tensors):
        assert self.disk.wait(20)
        if self.disk_error is not None:
            raise self.disk_error
        return self.job.save(round, tensors)

    def client(self, i: int, leased: bool = True) -> AggregationClient:
        policy = RetryPolicy(first=0.01, deadline=5)
        client = AggregationClient(self.address, f"silo_{i}", f"w{i}", f"host:{i}", policy, wait_for_server=5)
        if leased:
            client.acquire_lease(10 * (i + 1), self.job.info.fingerprint)
        return client

    def close(self) -> None:
        self.service.stop(grace=1)
        self.stop.set()
        self.closer.join()


@pytest.fixture
def serve(store, tmp_path):
    """Make served jobs; settings of the round and of the job may be given."""
    made = []

    def make(round=None, **settings) -> ServedJob:
        settings = {"fl_name": "job", "fl_iteration_num": 3, **settings}
        config = FederatedConfig(round=Round(**{"start_fl_job_threshold": 2, **(round or {})}), **settings)
        made.append(ServedJob(store, tmp_path, config))
        return made[-1]

    yield make
    for served in made:
        served.close()


@pytest.fixture
def served(serve) -> ServedJob:
    """A served job with settings as they come."""
    return serve()
