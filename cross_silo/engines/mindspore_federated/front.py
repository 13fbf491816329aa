"""The front of the wheel's servers: what workers ask beside weights, the rounds' verdicts, and the job's record.

It stands where the native server does: at --http_server_address, with its routes but for the weights, its leases,
record in Redis, summary and checkpoints' care. Killing it stops no iteration; a new one reads the verdicts that came.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional

import redis

from cross_silo.aggregation.ending import await_evaluation, await_workers
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.initial import find_model
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.journal import Journal, interrupted_record, recovered_record
from cross_silo.aggregation.keeper import ROLE, Keeper
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.presence import log_end, own_member, status_of
from cross_silo.aggregation.rounds import ENDED, ENDED_FAILED, Rounds
from cross_silo.aggregation.server import instance_of, next_attempt, refuse_second_server, unrecorded
from cross_silo.checkpoint import list_checkpoints
from cross_silo.config import timeouts
from cross_silo.config.auth import OPERATOR, SERVER, SILO
from cross_silo.config.federated import FederatedConfig, load_federated
from cross_silo.coordination import JobStore, connect
from cross_silo.engines.mindspore_federated.guards import check_names
from cross_silo.engines.mindspore_federated.mirror import Mirror, longer
from cross_silo.engines.mindspore_federated.record import EngineRecord, refuses
from cross_silo.engines.mindspore_federated.routes import FrontRoutes
from cross_silo.errors import run_main
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready
from cross_silo.protocol.access import Access
from cross_silo.protocol.http_service import HttpService
from cross_silo.protocol.layout import largest_message
from cross_silo.report.state_routes import PATHS, StateRoutes
from cross_silo.report.status import Status
from cross_silo.report.summary import write_summary

log = logging.getLogger(__name__)

ROLE_NAME = "server_front"
TICK_SECONDS = 0.1
LOOK_SECONDS = 2.0
"""From one look at which servers are alive to the next."""
VERDICT_SECONDS = 0.5
"""How long one look for verdicts waits for some."""
STOP_SECONDS = 4.0
"""How long the engine's servers may take to leave at the job's end."""


class Servers:
    """Which of the wheel's servers listen."""

    def __init__(self, addresses: List[str]) -> None:
        self.addresses = addresses
        self._live: List[str] = []
        self._looked_at = -LOOK_SECONDS
        self._lock = threading.Lock()

    def live(self) -> List[str]:
        """Return the addresses of those that do."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_SECONDS:
                found = [address for address in self.addresses if not refuses(address)]
                for address in sorted({*found} - {*self._live}):
                    log.info("the engine's server at %s is there", address)
                for address in sorted({*self._live} - {*found}):
                    log.warning("the engine's server at %s is gone", address)
                self._live, self._looked_at = found, time.monotonic()
            return self._live


class Front:
    """One job's front with its threads and its service."""

    def __init__(self, arguments: argparse.Namespace, config: FederatedConfig) -> None:
        """Connect to Redis, read the model's description and take the address. Raises UserError."""
        self._run_dir: Path = arguments.run_dir
        access = Access(config, SERVER, (SILO,), also=dict.fromkeys(("/job", *PATHS), (OPERATOR,)))
        client = connect(config.distributed_cache, start_embedded=True, user=ROLE_NAME)
        jobs = JobStore(client, config.fl_name)
        refuse_second_server(jobs.members(ROLE), config.fl_name)
        weights, info = find_model(
            arguments.checkpoint_dir, config.fl_name, arguments.yaml_config, arguments.config, arguments.pre_trained
        )
        earlier = jobs.job() or {}
        self.job = Job(config, weights, info, arguments.checkpoint_dir, instance_of(info, earlier))
        del weights
        check_names(self.job.sizes)
        self.servers = Servers(arguments.server_address)
        self._engine = EngineRecord(client, config.fl_name)
        self._verdict = "0"
        are_gone = all(map(refuses, self.servers.addresses))
        if are_gone:
            self._engine.flush_engine()  # whatever it was in the middle of, nobody is there to go on with it
        if are_gone or earlier.get("instance") != self.job.instance:
            self._engine.forget_verdicts()  # the engine's numbers begin anew
        if earlier.get("instance") != self.job.instance:
            jobs.clear()
            earlier = {}
        self._store = GuardedStore(jobs)
        self._leases = Leases(self._store, config.lease, config.silo_names, config.num_silos, time.monotonic)
        attempt, self._interrupted = next_attempt(earlier, info.round + 1)
        self._newest, self._unrecorded = info.round, unrecorded(info.round, jobs, self._run_dir, self.job.instance)
        settings, last = longer(config.round), config.fl_iteration_num
        rounds = Rounds(
            settings, last, time.monotonic, info.round + 1, attempt, self._leases.expected, config.participation
        )
        self.mirror = Mirror(rounds, self._leases, self._path_of)
        routes = FrontRoutes(self.mirror, self.job, self.servers.live).routes()
        routes.update(StateRoutes(self._read_status).routes())
        self._service = HttpService(arguments.http_server_address, "--http_server_address", routes, access)
        metrics_file = self._run_dir / ROLE_NAME / config.summary.metrics_file
        self._journal = Journal(self._store, metrics_file, lambda: write_summary(self._run_dir, jobs))
        member = {**own_member(self._service.address, self._run_dir), "engine_servers": self.servers.addresses}
        self._keeper = Keeper(
            self._store, self.mirror, self.job, self._journal, member, _refuse_new_instance, time.monotonic
        )
        self.leave = threading.Event()
        """Set to leave before the job's end."""

    def _read_status(self) -> Status:
        return status_of(self._store, self.job.config.fl_name)

    def run(self) -> int:
        """Serve to the job's end, or until :attr:`leave` is set. Returns the exit status."""
        stop = threading.Event()
        tasks = (self._keeper.run, self._judge, self._keep_time)
        threads = [threading.Thread(target=task, args=(stop,), daemon=True) for task in tasks]
        self._keeper.begin()
        if self._unrecorded:
            self._journal.recover(self._unrecorded, recovered_record(self._newest, self._path_of(self._newest)))
        if self._interrupted:
            self._journal.write([interrupted_record(self._interrupted)])
        self._keeper.step()
        self._take_verdicts(0.0)  # those that came while no front was there, before any worker asks
        self._service.start()
        for thread in threads:
            thread.start()
        write_ready(self._run_dir / ROLE_NAME, self._service.address)
        log.info("%s", timeouts.shown(self.job.config))
        name, first = self.job.config.fl_name, self.mirror.rounds.iteration
        log.info("serves job %s at %s from round %d on", name, self._service.address, first)
        try:
            while self.mirror.rounds.state not in ENDED and not self.leave.wait(TICK_SECONDS):
                pass
            if not self.leave.is_set():
                self._end()
        finally:
            self.mirror.leave()
            self._service.stop()
            stop.set()
            for thread in threads:
                thread.join(timeout=30)
            self._keeper.step()
            self._journal.summarise()
            self._keeper.leave()
        return 1 if self.mirror.rounds.state == ENDED_FAILED else 0

    def _path_of(self, round: int) -> str:
        return str(dict(list_checkpoints(self.job.checkpoint_dir, self.job.config.fl_name)).get(round, ""))

    def _judge(self, stop: threading.Event) -> None:
        """Take over verdicts as they come."""
        while not stop.is_set():
            self._take_verdicts(VERDICT_SECONDS)

    def _take_verdicts(self, wait: float) -> None:
        size = largest_message(self.job.sizes)
        try:
            for number, verdict in self._engine.verdicts(self._verdict, wait):
                self._verdict = number
                self.mirror.judge(verdict, size)
        except redis.RedisError:
            time.sleep(VERDICT_SECONDS)  # the keeper says that Redis is away
        except Exception:  # later verdicts must be heard
            log.exception("a verdict of the engine after %s", self._verdict)
            time.sleep(VERDICT_SECONDS)

    def _keep_time(self, stop: threading.Event) -> None:
        while not stop.wait(TICK_SECONDS):
            try:
                self.mirror.tick()
                self.servers.live()
            except Exception:  # time must go on
                log.exception("keeping time")

    def _end(self) -> None:
        """Tell of the job's end, stay until workers and evaluator have heard of it, and end the engine's servers."""
        self._keeper.step()
        rounds, deadline = self.mirror.rounds, self.job.config.evaluation.deadline
        log_end(log, self.job.config.fl_name, rounds, ENDED_FAILED)
        await_workers(self._leases, self.leave, measuring=deadline)
        self._stop_engine()
        if self.job.config.evaluation.annotations and rounds.good_rounds:
            await_evaluation(self._store, rounds.good_rounds, deadline, self.leave)
        until = time.monotonic() + STOP_SECONDS
        while not all(map(refuses, self.servers.addresses)) and not self.leave.wait(TICK_SECONDS):
            if time.monotonic() > until:
                log.error("the engine's servers have not left; scripts/finish.py ends them")
                return
            self._stop_engine()  # again: Redis may have been away, or have lost it

    def _stop_engine(self) -> None:
        try:
            self._engine.stop_engine()
        except redis.RedisError as error:
            log.error("the engine's servers are not told to leave: %s", error)


def _refuse_new_instance(changes: Mapping[str, Any]) -> None:
    raise ValueError("engine mindspore_federated cannot begin a job anew; end it and start it with another fl_name")


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the front process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.engines.mindspore_federated.front", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--http_server_address", required=True, help="host:port that workers ask")
    parser.add_argument("--server_address", required=True, action="append", help="IPv4:port of one of the servers")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the global model's checkpoints")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    parser.add_argument("--config", help="model YAML that the initial model is made from where there is none")
    parser.add_argument("--pre_trained", default="", help="checkpoint that the initial model is filled from")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve a job to its end: 0 if it finished, was stopped or this front is asked to leave, 1 if it failed."""
    arguments = parse(argv)
    logs.start(ROLE_NAME)
    front = Front(arguments, load_federated(arguments.yaml_config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: front.leave.set())
    return front.run()


if __name__ == "__main__":
    run_main(main)
