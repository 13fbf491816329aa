"""The MistNet routes served over loopback inside the test's process."""

import time

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.mistnet import wire
from cross_silo.mistnet.client import FeatureClient
from cross_silo.mistnet.collection import Collection
from cross_silo.mistnet.routes import FeatureRoutes
from cross_silo.mistnet.store import FeatureStore
from cross_silo.protocol.access import OPEN
from cross_silo.protocol.http_service import HttpService
from cross_silo.protocol.retry import RetryPolicy
from tests.support.fake_features import TERMS


class ServedFeatures:
    """Leases, store and routes of a job of two silos."""

    def __init__(self, jobs, directory, access=OPEN, fetch=None, least=2, deadline=3600.0, clock=time.monotonic):
        self.leases = Leases(GuardedStore(jobs), 60.0, (), 2, time.monotonic)
        self.store = FeatureStore(directory / "store", TERMS)
        self.collection = Collection(self.store, self.leases, least, deadline, 3, clock, fetch)
        pool = UploadPool(2, wire.CHUNK_BYTES)
        self.routes = FeatureRoutes(self.collection, self.store, {**TERMS, "p": 1.0}, b"the extractor" * 9000, pool)
        self.service = HttpService("127.0.0.1:0", "--http_server_address", self.routes.routes(), access)
        self.service.start()

    def client(self, silo="silo_0", leased=True, **options):
        """A client of the silo's worker, with the lease unless told otherwise."""
        worker = f"worker of {silo}"
        if leased:
            self.leases.acquire(silo, worker, {})
        retry = RetryPolicy(first=0.01, longest=0.05, deadline=3.0)
        return FeatureClient(self.service.address, silo, worker, "node:1", retry=retry, **options)

    def close(self):
        self.service.stop(grace=0.1)
