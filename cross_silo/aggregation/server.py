"""The aggregator process of the native engine: serves a job's rounds from its newest checkpoint to its end."""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.ending import await_evaluation, await_workers
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.initial import find_model
from cross_silo.aggregation.job import Job, changed_settings
from cross_silo.aggregation.job_routes import JobRoutes
from cross_silo.aggregation.journal import Journal, interrupted_record, recovered_record
from cross_silo.aggregation.keeper import ROLE, Keeper
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.permit_routes import PermitRoutes
from cross_silo.aggregation.permits import Permits
from cross_silo.aggregation.presence import log_end, own_member, status_of
from cross_silo.aggregation.rounds import ENDED, ENDED_FAILED, IDLE, Rounds
from cross_silo.aggregation.service import EngineRoutes
from cross_silo.aggregation.shard_link import ShardLink
from cross_silo.aggregation.shard_uploads import ShardUploads
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.aggregation.wheel_worker import WheelWorkerRoutes
from cross_silo.checkpoint import TRAINABLE, CheckpointInfo, list_checkpoints
from cross_silo.config import timeouts
from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import WHEEL_WORKER, FederatedConfig, load_federated, require_protected, split_address
from cross_silo.coordination import JobStore, connect
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.memory import share_one_arena
from cross_silo.launch.proc import is_alive
from cross_silo.launch.ready import write_ready
from cross_silo.launch.server_addresses import listening_at, reached_at
from cross_silo.protocol.access import Access, credentials
from cross_silo.protocol.http_service import HttpService
from cross_silo.protocol.layout import largest_message
from cross_silo.protocol.split import Split, split
from cross_silo.report.state_routes import PATHS, StateRoutes
from cross_silo.report.status import Status
from cross_silo.report.summary import earlier_summary, write_summary

log = logging.getLogger(__name__)

ROLE_NAME = "server_0"
TICK_SECONDS = 0.1


class Server:
    """One job's aggregator with its threads and its service."""

    def __init__(self, arguments: argparse.Namespace, config: FederatedConfig) -> None:
        """Connect to Redis, read the model and take the address. Raises UserError."""
        self._run_dir: Path = arguments.run_dir
        require_protected(arguments.tcp_server_ip, "--tcp_server_ip", config)
        access = Access(config, SERVER, (SILO,), also=dict.fromkeys(("/job", *PATHS), (OPERATOR,)))
        client = connect(config.distributed_cache, start_embedded=True, user=ROLE_NAME)
        jobs = JobStore(client, config.fl_name)
        refuse_second_server(jobs.members(ROLE), config.fl_name)
        weights, info = find_model(
            arguments.checkpoint_dir, config.fl_name, arguments.yaml_config, arguments.config, arguments.pre_trained
        )
        earlier = jobs.job() or {}
        self.job = Job(config, weights, info, arguments.checkpoint_dir, instance_of(info, earlier))
        if earlier.get("instance") != self.job.instance:
            jobs.clear()
            earlier = {}
        found = split(self.job.sizes, arguments.servers)
        models = ModelStore(dict(sorted(self.job.sizes.items(), key=lambda item: (found[item[0]], item[0]))))
        models.load(weights, info.round)
        del weights
        self._shards = make_shards(arguments, self.job, models, found) if arguments.servers > 1 else None
        self._store = GuardedStore(jobs)
        self._leases = Leases(self._store, config.lease, config.silo_names, config.num_silos, time.monotonic)
        attempt, self._interrupted = next_attempt(earlier, info.round + 1)
        self._newest, self._unrecorded = info.round, unrecorded(info.round, jobs, self._run_dir, self.job.instance)
        rounds = self._rounds(info.round + 1, attempt)
        self.aggregator = Aggregator(
            rounds, self._leases, models, self.job.save, aggregation=config.aggregation, shards=self._shards
        )
        self.aggregator.refusals.begin_with(json.loads(earlier.get("refused_updates", "{}")))
        pool = UploadPool(config.round.max_uploads, largest_message(self.job.sizes))
        permits = Permits(pool, self._shards) if self._shards is not None else None
        addresses = listening_at(arguments.http_server_address, arguments.servers)
        ports = [split_address(address, "address")[1] for address in addresses]
        uploads = ShardUploads(self._shards, permits, ports, config) if permits is not None else None
        self._permits = PermitRoutes(self.aggregator, permits)
        self._wheel_workers = (
            WheelWorkerRoutes(self.aggregator, self.job, pool, uploads) if config.compat == WHEEL_WORKER else None
        )
        routes = (self._wheel_workers or EngineRoutes(self.aggregator, self.job, pool, uploads)).routes()
        routes.update(self._permits.routes())
        routes.update(JobRoutes(self.aggregator, self.job).routes())
        routes.update(StateRoutes(self._read_status).routes())
        self._service = HttpService(arguments.http_server_address, "--http_server_address", routes, access)
        metrics_file = self._run_dir / ROLE_NAME / config.summary.metrics_file
        self._journal = Journal(self._store, metrics_file, lambda: write_summary(self._run_dir, jobs))
        member = own_member(self._service.address, self._run_dir)
        self._keeper = Keeper(
            self._store, self.aggregator, self.job, self._journal, member, self._begin_anew, time.monotonic
        )
        self.leave = threading.Event()
        """Set to leave before the job's end."""

    def _rounds(self, iteration: int, attempt: int = 1) -> Rounds:
        config = self.job.config
        known, participation = self._leases.expected, config.participation
        return Rounds(config.round, config.fl_iteration_num, time.monotonic, iteration, attempt, known, participation)

    def _read_status(self) -> Status:
        return status_of(self._store, self.job.config.fl_name)

    def _begin_anew(self, changes: Mapping[str, Any]) -> None:
        """Make the job begin again at round 1 from the present model. Raises ValueError or OSError."""
        config = changed_settings(self.job.config, changes)
        with self.aggregator.paused("a new instance of the job begins"):
            self.job.begin_anew(config, new_instance(), self.aggregator.models.tensors)
            self._leases.most = config.num_silos
            self.aggregator.begin_anew(self._rounds(1))

    def run(self) -> int:
        """Serve to the job's end, or until :attr:`leave` is set. Returns the exit status."""
        stop = threading.Event()
        tasks = [self._keeper.run, self.aggregator.close_rounds, self._keep_time]
        if self._shards is not None:
            tasks.append(self._shards.watch)
        threads = [threading.Thread(target=task, args=(stop,), daemon=True) for task in tasks]
        self._keeper.begin()
        if self._unrecorded:
            path = dict(list_checkpoints(self.job.checkpoint_dir, self.job.config.fl_name))[self._newest]
            self._journal.recover(self._unrecorded, recovered_record(self._newest, str(path)))
        if self._interrupted:
            self._journal.write([interrupted_record(self._interrupted)])
        self._keeper.step()  # be known as a member before anybody is told that this one serves
        self._service.start()
        for thread in threads:
            thread.start()
        write_ready(self._run_dir / ROLE_NAME, self._service.address)
        rounds = self.aggregator.rounds
        log.info("%s", timeouts.shown(self.job.config))
        log.info(
            "serves job %s at %s from round %d on", self.job.config.fl_name, self._service.address, rounds.iteration
        )
        try:
            while self.aggregator.rounds.state not in ENDED and not self.leave.wait(TICK_SECONDS):
                pass
            if not self.leave.is_set():
                self._end()
        finally:
            self.aggregator.leave()
            self._service.stop()
            stop.set()
            for thread in threads:
                thread.join(timeout=30)
            if self._shards is not None and self.aggregator.rounds.state in ENDED:
                self._shards.end()
            self._keeper.step()
            self._journal.summarise()
            self._keeper.leave()
        return 1 if self.aggregator.rounds.state == ENDED_FAILED else 0

    def _keep_time(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            try:
                self.aggregator.tick()
                self._permits.lapse()
            except Exception:  # time must go on
                log.exception("keeping time")

    def _end(self) -> None:
        """Tell of the job's end, and stay until workers and evaluator have heard of it."""
        self._keeper.step()
        rounds = self.aggregator.rounds
        log_end(log, self.job.config.fl_name, rounds, ENDED_FAILED)
        await_workers(self._leases, self.leave, measuring=self.job.config.evaluation.deadline)
        if self._wheel_workers is not None:
            self._wheel_workers.await_quiet(self.job.config.lease, self.leave)
        if self.job.config.evaluation.annotations and rounds.good_rounds:
            await_evaluation(self._store, rounds.good_rounds, self.job.config.evaluation.deadline, self.leave)


def make_shards(arguments: argparse.Namespace, job: Job, models: ModelStore, found: Split) -> Shards:
    """Return the job's other servers. Raises UserError."""
    if len(job.sizes) < arguments.servers:
        raise UserError(f"--local_server_num is {arguments.servers}, but the model has {len(job.sizes)} tensors")
    config = job.config
    shown = credentials(config, SERVER, SERVER)
    addresses = reached_at(arguments.http_server_address, arguments.tcp_server_ip, arguments.servers)
    links = [ShardLink(index, address, shown) for index, address in enumerate(addresses) if index]
    trainable = [name for name, kind in job.info.kinds.items() if kind == TRAINABLE]
    return Shards(links, found, trainable, models, config.lease)


def new_instance() -> str:
    """Return an id for a run of a job."""
    return f"i_{time.strftime('%Y%m%d_%H%M%S')}_{secrets.token_hex(3)}"


def instance_of(info: CheckpointInfo, earlier: Mapping[str, str]) -> str:
    """Return the instance that a server goes on with: its checkpoint's, or that of a job which made no round yet."""
    if info.instance:
        return info.instance
    begun = earlier.get("state") in ("running", "disabled") and earlier.get("good_rounds") == str(info.round)
    return earlier["instance"] if begun and earlier.get("instance") else new_instance()


def next_attempt(earlier: Mapping[str, str], iteration: int) -> Tuple[int, Optional[Key]]:
    """Return the attempt that a restarted server begins with, and the one that its predecessor left unfinished."""
    attempt = earlier.get("attempt", "")
    if earlier.get("iteration") != str(iteration) or not attempt.isdigit():
        return 1, None
    if earlier.get("phase", IDLE) == IDLE:
        return int(attempt), None
    return int(attempt) + 1, (iteration, int(attempt))


def unrecorded(newest: int, jobs: JobStore, run_dir: Path, instance: str) -> List[int]:
    """Return the good rounds up to ``newest`` that neither Redis nor summary has: their server died before."""
    records = [*jobs.rounds(), *earlier_summary(run_dir, instance).get("rounds", [])]
    known = {record["round"] for record in records if record["good"]}
    return [round for round in range(1, newest + 1) if round not in known]


def refuse_second_server(members: Mapping[str, Mapping[str, Any]], fl_name: str) -> None:
    """Refuse to serve a job beside another live server. Raises UserError."""
    for node, told in members.items():
        here = told.get("host") == socket.gethostname()
        if here and not is_alive(int(told.get("pid", 0)), int(told.get("start_time") or 0)):
            continue  # it was killed; its sign of life in Redis has not run out yet
        raise UserError(f"job {fl_name!r} has a live server at {told.get('address', node)} ({node})")


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the server process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.aggregation.server", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--http_server_address", required=True, help="host:port that workers ask")
    parser.add_argument("--tcp_server_ip", required=True, help="address of this host among servers")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the global model's checkpoints")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    parser.add_argument("--servers", type=int, default=1, help="of the job; the others' ports follow this one's")
    parser.add_argument("--config", help="model YAML that the initial model is made from where there is none")
    parser.add_argument("--pre_trained", default="", help="checkpoint that the initial model is filled from")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve a job to its end: 0 if it finished, was stopped or this server is asked to leave, 1 if it failed."""
    arguments = parse(argv)
    share_one_arena()
    logs.start(ROLE_NAME)
    config = load_federated(arguments.yaml_config)
    server = Server(arguments, config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.leave.set())
    return server.run()


if __name__ == "__main__":
    run_main(main)
