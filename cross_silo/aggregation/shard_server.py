"""The process of a server beside the first one: holds some of the model's tensors until the first says the job is over.

It has no state on disk and asks nobody: the first server finds it and gives it its tensors.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path
from typing import List, Optional

from cross_silo.aggregation.shard import Shard
from cross_silo.aggregation.shard_routes import ShardRoutes
from cross_silo.config.auth import SERVER, SILO
from cross_silo.config.federated import load_federated
from cross_silo.errors import run_main
from cross_silo.launch import logs
from cross_silo.launch.memory import share_one_arena
from cross_silo.launch.ready import write_ready
from cross_silo.protocol.access import Access
from cross_silo.protocol.http_service import HttpService

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
LEAST_PATIENCE = 120.0
"""Seconds in which a first server is started again that its workers wait for."""


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the process's arguments."""
    parser = argparse.ArgumentParser(prog="python -m cross_silo.aggregation.shard_server", description=__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--index", required=True, type=int, help="of this server; 1 or more")
    parser.add_argument("--http_server_address", required=True, help="host:port of this server")
    parser.add_argument("--first_server_address", required=True, help="host:port of the first one")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve until the job is over, or this server is asked to leave."""
    arguments = parse(argv)
    share_one_arena()
    name = f"server_{arguments.index}"
    logs.start(name)
    config = load_federated(arguments.yaml_config)
    leave = threading.Event()
    shard = Shard(config.aggregation)
    answers = ShardRoutes(shard, config, arguments.first_server_address, leave)
    routes = answers.routes()
    steps = {path: (SERVER,) for _, path in routes}
    access = Access(config, SERVER, (SILO,), also=steps)
    service = HttpService(arguments.http_server_address, "--http_server_address", routes, access)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave.set())
    service.start()
    write_ready(arguments.run_dir / name, service.address)
    log.info("serves at %s and waits for the first server", service.address)
    patience = max(config.round.start_fl_job_time_window / 1000, LEAST_PATIENCE)
    while not leave.wait(POLL_SECONDS) and answers.silence() < patience:
        pass
    service.stop()
    if not leave.is_set():
        log.error(
            "the first server, at %s, asked for nothing for %g s (round.start_fl_job_time_window, at least %g): ended; "
            "the command that started them starts both again",
            *(arguments.first_server_address, patience, LEAST_PATIENCE),
        )
        return 1
    log.info("ended")
    return 0


if __name__ == "__main__":
    run_main(main)
