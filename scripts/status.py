"""Show how a job stands: round and phase, silos, who is missing, time windows left, AP by round, failures.

Exit status: 0; 1 where the job failed or none of its servers is alive; 2 where there is no job to be seen.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from typing import Callable, List, Optional

from rich.console import Console
from rich.live import Live

from cross_silo.config.federated import DistributedCache, load_federated, split_address
from cross_silo.coordination.store import ENDED
from cross_silo.errors import UserError, run_main
from cross_silo.report.find_status import from_redis, over_http
from cross_silo.report.show_status import status_view
from cross_silo.report.status import Status

WATCH_SECONDS = 2.0
BAD = ("failed", "no_server")


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--redis_port", type=int, help="port of the job's Redis on this machine")
    where.add_argument("--redis_address", default="", help="host:port of the job's Redis")
    where.add_argument("--address", default="", help="host:port of the scheduler's REST, or of the server")
    parser.add_argument("--yaml_config", help="the job's federated YAML: Redis, fl_name, and who asks")
    parser.add_argument("--auth_dir", default="", help="the operator's certificate and key, or token, with --address")
    parser.add_argument("--fl_name", default="", help="the job, where several use that Redis")
    parser.add_argument("--watch", action="store_true", help="show it again every 2 s until the job has ended")
    parser.add_argument("--json", action="store_true", help="print one JSON object (with --watch: one a line)")
    return parser.parse_args(argv)


def find(arguments: argparse.Namespace) -> Callable[[], Status]:
    """Return what reads the status that the command line means. Raises UserError."""
    config = load_federated(arguments.yaml_config, arguments.auth_dir) if arguments.yaml_config else None
    if arguments.address:
        return over_http(arguments.address, config)
    settings = config.distributed_cache if config is not None else DistributedCache()
    address, flag = arguments.redis_address, "--redis_address"
    if arguments.redis_port is not None:
        address, flag = f"127.0.0.1:{arguments.redis_port}", "--redis_port"
    if not address and config is None:
        raise UserError("which job is not said; expected --redis_port, --redis_address, --address or --yaml_config")
    address = address or settings.address
    split_address(address, flag)
    return from_redis(address, arguments.fl_name or (config.fl_name if config is not None else ""), settings)


def watch(read: Callable[[], Status], as_json: bool, pause: Callable[[float], None] = time.sleep) -> Status:
    """Show the status until the job has ended; return the last one."""
    with nullcontext() if as_json else Live(console=Console(), auto_refresh=False) as live:
        while True:
            status = read()
            if live is None:
                print(json.dumps(status), flush=True)
            else:
                live.update(status_view(status), refresh=True)
            if status["state"] in ENDED:
                return status
            pause(WATCH_SECONDS)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    read = find(arguments)
    if arguments.watch:
        status = watch(read, arguments.json)
    else:
        status = read()
        if arguments.json:
            print(json.dumps(status))
        else:
            Console().print(status_view(status))
    return 1 if status["state"] in BAD else 0


if __name__ == "__main__":
    run_main(main)
