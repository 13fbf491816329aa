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
from cross_silo.aggregation.permit_routes import PermitRoutes
from cross_silo.aggregation.permits import Permits
from cross_silo.aggregation.rounds import Rounds
from cross_silo.aggregation.service import EngineRoutes
from cross_silo.aggregation.shard import Shard
from cross_silo.aggregation.shard_link import ShardLink
from cross_silo.aggregation.shard_routes import ShardRoutes
from cross_silo.aggregation.shard_uploads import ShardUploads
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.checkpoint import CheckpointInfo
from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import FederatedConfig, Round
from cross_silo.protocol.access import Access, credentials
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.http_service import HttpService
from cross_silo.protocol.layout import largest_message
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.split import names_of, split

WEIGHTS = {
    "conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "bn.moving_mean": np.float32([0.5, -0.5]),
    "scale": np.float32(3).reshape(()),
}


class ServedJob:
    """A job, for two silos unless told otherwise, with all the aggregator's parts but its process."""

    def __init__(self, store, directory: Path, config: FederatedConfig, servers: int = 1) -> None:
        self.store = store
        self.disk_error = None
        self.disk = threading.Event()
        self.disk.set()
        self.job = Job(config, WEIGHTS, CheckpointInfo(classes=("cat", "dog")), directory, "i_test")
        guarded = GuardedStore(store)
        self.leases = Leases(guarded, config.lease, config.silo_names, config.num_silos, time.monotonic)
        found = split(self.job.sizes, servers)
        self.models = ModelStore({name: self.job.sizes[name] for i in range(servers) for name in names_of(found, i)})
        self.models.load(WEIGHTS, 0)
        self.stop = threading.Event()
        self.others = [ShardServed(config) for _ in range(servers - 1)]
        self.shards = self._make_shards(config, found) if servers > 1 else None
        rounds = Rounds(config.round, config.fl_iteration_num, time.monotonic, known=self.leases.expected)
        self.aggregator = Aggregator(
            rounds, self.leases, self.models, self.save, aggregation=config.aggregation, shards=self.shards
        )
        pool = UploadPool(config.round.max_uploads, largest_message(self.job.sizes))
        permits = Permits(pool, self.shards) if self.shards is not None else None
        self.ports = [0, *(int(other.service.address.rpartition(":")[2]) for other in self.others)]
        uploads = ShardUploads(self.shards, permits, self.ports, config) if permits is not None else None
        routes = EngineRoutes(self.aggregator, self.job, pool, uploads).routes()
        self.permit_routes = PermitRoutes(self.aggregator, permits)
        routes.update(self.permit_routes.routes())
        routes.update(JobRoutes(self.aggregator, self.job).routes())
        access = Access(config, SERVER, (SILO,), also={"/job": (OPERATOR,)})
        self.service = HttpService("127.0.0.1:0", "--http_server_address", routes, access)
        self.service.start()
        self.address = self.service.address
        self.closer = threading.Thread(target=self.aggregator.close_rounds, args=(self.stop,), daemon=True)
        self.closer.start()
        if self.shards is not None:
            threading.Thread(target=self.shards.watch, args=(self.stop,), daemon=True).start()
            self.await_servers()

    def _make_shards(self, config, found):
        shown = credentials(config, SERVER, SERVER)
        links = [ShardLink(i, other.service.address, shown) for i, other in enumerate(self.others, 1)]
        trainable = [name for name, kind in self.job.info.kinds.items() if kind == "trainable"]
        return Shards(links, found, trainable, self.models, 2.0)

    def await_servers(self) -> None:
        """Wait until all servers are there."""
        deadline = time.monotonic() + 20
        while self.shards.away():
            assert time.monotonic() < deadline, self.shards.away()
            time.sleep(0.02)

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
        for other in self.others:
            other.service.stop(grace=1)


class ShardServed:
    """A server beside the first one."""

    def __init__(self, config: FederatedConfig) -> None:
        self.shard = Shard(config.aggregation)
        self.over = threading.Event()
        routes = ShardRoutes(self.shard, config, "the.first:1", self.over).routes()
        access = Access(config, SERVER, (SILO,), also={path: (SERVER,) for _, path in routes})
        self.service = HttpService("127.0.0.1:0", "--http_server_address", routes, access)
        self.service.start()


@pytest.fixture
def serve(store, tmp_path):
    """Make served jobs; settings of the round and of the job may be given."""
    made = []

    def make(round=None, servers=1, **settings) -> ServedJob:
        settings = {"fl_name": "job", "fl_iteration_num": 3, **settings}
        config = FederatedConfig(round=Round(**{"start_fl_job_threshold": 2, **(round or {})}), **settings)
        made.append(ServedJob(store, tmp_path, config, servers))
        return made[-1]

    yield make
    for served in made:
        served.close()


@pytest.fixture
def served(serve) -> ServedJob:
    """A served job with settings as they come."""
    return serve()
