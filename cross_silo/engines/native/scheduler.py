"""The scheduler process: serves the management REST, checks the stop condition, keeps the embedded Redis alive.

It holds no state of its own: killing it stops nothing, and a new one goes on from Redis.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import redis

from cross_silo.config.auth import OPERATOR, SCHEDULER
from cross_silo.config.federated import FederatedConfig, is_loopback, load_federated, split_address
from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.client import make_client
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.coordination.stopping import StopCheck
from cross_silo.coordination.store import ENDED
from cross_silo.engines.native.management import Management
from cross_silo.errors import UserError, run_main
from cross_silo.launch import logs
from cross_silo.launch.ready import write_ready
from cross_silo.protocol.access import Access
from cross_silo.protocol.http_service import HttpService
from cross_silo.report.state_routes import StateRoutes
from cross_silo.report.status import read_status

log = logging.getLogger(__name__)

ROLE = "scheduler"
BEAT_SECONDS = 1.0
ASK_AGAIN_SECONDS = 5.0
"""After which a server that has not ended a job whose stop condition is met (it was restarted) is asked again."""


class JobWatch:
    """Tells when the job is over, from what Redis shows at each look.

    The record of an earlier job of the same name may still be there when the scheduler starts: only a job that was
    seen alive can end it.
    """

    def __init__(self) -> None:
        self._first: Optional[Tuple[str, str]] = None
        self._looked = False
        self._seen_alive = False

    def look(self, job: Optional[Dict[str, str]], servers: int) -> Optional[str]:
        """Return the state in which the job ended and was left by its servers; None while it goes on."""
        start = (job.get("instance", ""), job.get("started", "")) if job else None
        if not self._looked:
            self._looked, self._first = True, start
        ended = job is not None and job["state"] in ENDED
        self._seen_alive = self._seen_alive or servers > 0 or (job is not None and (not ended or start != self._first))
        return job["state"] if job is not None and ended and self._seen_alive and not servers else None


class Scheduler:
    """One job's scheduler between its start and its end."""

    def __init__(self, config: FederatedConfig, service_address: str, run_dir: Path) -> None:
        """Connect to Redis, starting the embedded one if need be, and take the address. Raises UserError."""
        self._address = config.distributed_cache.address
        access = Access(config, SCHEDULER, (OPERATOR,))
        cache = config.distributed_cache
        connect(cache, start_embedded=True, user=ROLE).close()
        host, port = split_address(self._address, "distributed_cache.address")
        self._embedded = EmbeddedRedis(host, port) if is_loopback(host) and not cache.cacert_filename else None
        self._ours = self._embedded is not None and self._embedded.pid() is not None
        self._store = JobStore(make_client(host, port, tries=1, settings=cache), config.fl_name)
        self._read_status = lambda: read_status(self._store, config.fl_name)
        self._management = Management(self._store, config)
        routes = {**self._management.routes(), **StateRoutes(self._read_status).routes()}
        self._service = HttpService(service_address, "--scheduler_manage_address", routes, access)
        self._node = f"{socket.gethostname()}:{os.getpid()}"
        self._info = {"address": self._service.address, "run_dir": str(run_dir), "pid": os.getpid()}
        self._watch = JobWatch()
        self._stops = StopCheck(config.stop_condition)
        self._asked_at: Optional[float] = None
        self._lost = False
        self.leave = threading.Event()
        """Set to end :meth:`run`."""

    def run(self, role_dir: Path) -> int:
        """Serve until the job is over or :attr:`leave` is set. Returns the exit status."""
        self._service.start()
        try:
            status = self._step()
            write_ready(role_dir, self._service.address)
            log.info("serves at %s", self._service.address)
            while status is None and not self.leave.wait(BEAT_SECONDS):
                status = self._step()
        finally:
            self._service.stop()
            with contextlib.suppress(redis.RedisError):
                self._store.leave(ROLE, self._node)
        return status or 0

    def _step(self) -> Optional[int]:
        """Beat and look at the job; return the exit status once it is over."""
        try:
            self._store.beat(ROLE, self._node, self._info)
            self._store.touch()
            job = self._store.job()
            state = self._watch.look(job, len(self._store.members("server")))
            if job is not None and job["state"] == "running":
                self._check_stop(job)
        except redis.RedisError as error:
            self._mend_redis(error)
            return None
        if self._lost:
            self._lost = False
            log.info("Redis at %s answers again", self._address)
        if job is None or state is None:
            return None
        log.info("job %s, its servers have left%s", state, f": {job['reason']}" if job.get("reason") else "")
        return 1 if state == "failed" else 0

    def _check_stop(self, job: Mapping[str, str]) -> None:
        """Ask the server to end a job whose stop condition is met."""
        fired = self._stops.look(self._store, job)
        now = time.monotonic()
        if fired is None or (self._asked_at is not None and now - self._asked_at < ASK_AGAIN_SECONDS):
            return
        self._asked_at = now
        log.info("%s: the server is asked to finish the job", fired)
        self._store.request("finish", {**fired._asdict(), "instance": job.get("instance", "")})

    def _mend_redis(self, error: redis.RedisError) -> None:
        """Start the embedded Redis anew if it is gone; of another's Redis, wait for its return."""
        if not self._lost:
            self._lost = True
            log.warning("Redis at %s does not answer: %s", self._address, error)
        if self._embedded is None or not self._ours or self._embedded.pid() is not None:
            return
        try:
            if self._embedded.ensure(ROLE):
                log.warning("the embedded Redis had died and was started anew; the server tells it of the job again")
        except UserError as problem:
            log.error("%s", problem)


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the scheduler process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.engines.native.scheduler", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--scheduler_manage_address", required=True, help="host:port of the management REST")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the scheduler of a job to the job's end: 0 if it finished or was stopped, 1 if it failed."""
    arguments = parse(argv)
    logs.start(ROLE)
    config = load_federated(arguments.yaml_config)
    scheduler = Scheduler(config, arguments.scheduler_manage_address, arguments.run_dir)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: scheduler.leave.set())
    return scheduler.run(arguments.run_dir / ROLE)


if __name__ == "__main__":
    run_main(main)
