"""The server process of a MistNet job: takes the silos' features and keeps the job's record; it never trains.

Training is another process (:mod:`cross_silo.mistnet.feature_trainer`), so that nothing that it does holds up a
heartbeat or an upload.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import threading
import time
from pathlib import Path
from typing import List, Optional

from cross_silo.aggregation.ending import await_workers
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.initial import find_model
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.job_routes import JobRoutes
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.presence import log_end, own_member, status_of
from cross_silo.aggregation.server import instance_of, refuse_second_server
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import FederatedConfig, load_federated, require_protected
from cross_silo.config.transmitter import HTTP
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready
from cross_silo.mistnet import wire
from cross_silo.mistnet.collection import Collection
from cross_silo.mistnet.keeper import Keeper
from cross_silo.mistnet.objects import ObjectPlace
from cross_silo.mistnet.prepared import Prepared, prepare
from cross_silo.mistnet.routes import FeatureRoutes
from cross_silo.mistnet.store import FeatureStore
from cross_silo.mistnet.trainer_files import SERVER as ROLE_NAME
from cross_silo.protocol.access import Access
from cross_silo.protocol.http_service import HttpService
from cross_silo.report.state_routes import PATHS, StateRoutes
from cross_silo.report.status import Status
from cross_silo.report.summary import write_summary

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2
MEMBER = "server"
FEATURES = "features"
"""Directory of the features, in that of the checkpoints."""


class MistNetServer:
    """One job's control plane with its service."""

    def __init__(self, arguments: argparse.Namespace, config: FederatedConfig, prepared: Prepared) -> None:
        """Connect to Redis, take over what is there of features, take the address. Raises UserError."""
        self._config = config
        self._run_dir: Path = arguments.run_dir
        access = Access(config, SERVER, (SILO,), also=dict.fromkeys(("/job", *PATHS), (OPERATOR,)))
        client = connect(config.distributed_cache, start_embedded=True, user=ROLE_NAME)
        jobs = JobStore(client, config.fl_name)
        refuse_second_server(jobs.members(MEMBER), config.fl_name)
        earlier = jobs.job() or {}
        features = FeatureStore(arguments.checkpoint_dir / FEATURES, prepared.manifest_terms)
        self.job = Job(
            config, prepared.weights, prepared.info, arguments.checkpoint_dir, instance_of(prepared.info, earlier)
        )
        self.job.info = dataclasses.replace(self.job.info, fingerprint=prepared.fingerprint)
        if earlier.get("instance") != self.job.instance:
            jobs.clear()
        self._store = GuardedStore(jobs)
        leases = Leases(self._store, config.lease, config.silo_names, config.num_silos, time.monotonic)
        mistnet = config.mistnet
        by_objects = config.transmitter.channel != HTTP
        self._features = features
        self.collection = Collection(
            features,
            leases,
            mistnet.min_silos or config.num_silos,
            mistnet.deadline,
            config.fl_iteration_num,
            time.monotonic,
            self._fetch if by_objects else None,
        )
        pool = UploadPool(config.round.max_uploads, wire.CHUNK_BYTES)
        self._routes = FeatureRoutes(self.collection, features, prepared.terms, prepared.extractor, pool)
        routes = JobRoutes(self.collection, self.job).routes()  # type: ignore[arg-type]
        routes = {key: routes[key] for key in routes if key[1] in ("/job", "/lease", "/heartbeat", "/release")}
        routes.update(self._routes.routes())
        routes.update(StateRoutes(self._read_status).routes())
        self._service = HttpService(arguments.http_server_address, "--http_server_address", routes, access)

        def summarise() -> None:
            write_summary(self._run_dir, jobs)

        member = own_member(self._service.address, self._run_dir)
        self._keeper = Keeper(
            self._store, self.collection, features, self.job, self._run_dir, member, prepared.bits, summarise
        )
        self.leave = threading.Event()
        """Set to leave before the job's end."""

    def _place(self, silo: str) -> ObjectPlace:
        return ObjectPlace(self._config.transmitter.agg_data_path, self._config.fl_name, silo)

    def _fetch(self, silo: str, sha256: str, target: Path) -> None:
        self._place(silo).fetch(sha256, target)

    def _read_status(self) -> Status:
        return status_of(self._store, self._config.fl_name)

    def run(self) -> int:
        """Serve to the job's end, or until :attr:`leave` is set. Returns the exit status."""
        stop = threading.Event()
        keeping = threading.Thread(target=self._keep, args=(stop,), daemon=True)
        self._keeper.begin()
        self._keeper.step(self._routes.bytes_down)  # be known as a member before anybody is told that this one serves
        self._service.start()
        keeping.start()
        write_ready(self._run_dir / ROLE_NAME, self._service.address)
        log.info("serves MistNet job %s at %s", self._config.fl_name, self._service.address)
        rounds = self.collection.rounds
        try:
            while rounds.state not in ENDED and not self.leave.wait(TICK_SECONDS):
                self._tick()
            if rounds.state in ENDED:
                self._end()
        finally:
            self._service.stop()
            stop.set()
            keeping.join(timeout=30)
            self._keeper.step(self._routes.bytes_down)
            self._keeper.leave()
        return 1 if rounds.state == "failed" else 0

    def _tick(self) -> None:
        try:
            for lease in self.collection.leases.expire():
                log.warning("silo %s is silent: its lease has run out", lease.silo)
            self.collection.tick()
        except Exception:  # time must go on
            log.exception("keeping time")

    def _keep(self, stop: threading.Event) -> None:
        """Keep Redis, the run directory and the trainer informed."""
        while not stop.wait(TICK_SECONDS):
            try:
                self._keeper.step(self._routes.bytes_down)
            except Exception:  # a fault here must not end the job
                log.exception("keeping the job's record")
                stop.wait(1.0)

    def _end(self) -> None:
        """Stay until workers have heard of the job's end; then remove what is not needed any more."""
        rounds = self.collection.rounds
        log_end(log, self._config.fl_name, rounds, "failed")
        await_workers(self.collection.leases, self.leave)
        if rounds.state == "finished" and self._config.transmitter.remove_at_end:
            for silo in self._features.received():
                try:
                    count = self._place(silo).remove()
                except UserError as error:
                    log.warning("objects of silo %s stay: %s", silo, error)
                else:
                    log.info("%d objects of silo %s are removed", count, silo)


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the server process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.mistnet.server", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--http_server_address", required=True, help="host:port that workers ask")
    parser.add_argument("--tcp_server_ip", required=True, help="address of this host among servers")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the whole detector's checkpoints")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    parser.add_argument("--config", required=True, help="model YAML")
    parser.add_argument("--pre_trained", default="", help="checkpoint that the initial model is filled from")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve a job to its end: 0 if it finished, was stopped or this server is asked to leave, 1 if it failed."""
    arguments = parse(argv)
    logs.start(ROLE_NAME)
    config = load_federated(arguments.yaml_config)
    require_protected(arguments.tcp_server_ip, "--tcp_server_ip", config)
    weights, info = find_model(
        arguments.checkpoint_dir, config.fl_name, arguments.yaml_config, arguments.config, arguments.pre_trained
    )
    server = MistNetServer(arguments, config, prepare(arguments.config, config, weights, info))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.leave.set())
    return server.run()


if __name__ == "__main__":
    run_main(main)
