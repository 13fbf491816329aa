"""Check a role before it is started, with the flags that its launch script takes: versions, configuration, data,
checkpoint, ports, Redis, certificates, clocks, memory and disk. Nothing is started or changed.

Exit status: 0 no error (there may be warnings); 1 an error; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cross_silo.config import timeouts
from cross_silo.config.federated import load_federated, require_protected, split_address
from cross_silo.errors import UserError, run_main
from cross_silo.launch.arguments import make_job, not_negative, positive
from cross_silo.preflight.check import ERROR, OK, SKIPPED, WARNING, Check
from cross_silo.preflight.plan import ROLES, Plan
from cross_silo.preflight.run import run_checks

COLOURS = {OK: "green", WARNING: "yellow", ERROR: "red", SKIPPED: "dim"}


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--role", required=True, choices=ROLES)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument(
        "--auth_dir", default="", help="certificates, keys and tokens; the YAML's auth.dir if not given"
    )
    parser.add_argument("--run_dir", type=Path, help="where roles write; runs/{fl_name} if not given")
    parser.add_argument(
        "--scheduler_manage_address", default="127.0.0.1:18019", help="scheduler: host:port of its REST"
    )
    parser.add_argument(
        "--http_server_address", default="127.0.0.1:6668", help="server, worker: host:port of the server"
    )
    parser.add_argument("--local_server_num", type=positive, default=1, help="server: how many")
    parser.add_argument("--tcp_server_ip", default="127.0.0.1", help="server: address at which they reach each other")
    parser.add_argument("--config", default="", help="server, worker: model YAML")
    parser.add_argument("--checkpoint_dir", type=Path, help="server: the global model's checkpoints")
    parser.add_argument("--pre_trained", default="", help="server, worker: checkpoint that round 0 starts from")
    parser.add_argument("--dataset_path", type=Path, help="worker: directory that holds mindrecord_{i}")
    parser.add_argument("--local_worker_num", type=positive, default=1, help="worker: how many")
    parser.add_argument("--first_worker_index", type=not_negative, default=0, help="worker: index of the first of them")
    parser.add_argument("--silo", default="", help="worker: name of the silo of a single one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def check(arguments: argparse.Namespace) -> List[Check]:
    """Return what every check found."""
    try:
        config = load_federated(arguments.yaml_config, arguments.auth_dir)
    except UserError as error:
        return [Check("configuration", ERROR, str(error))]
    at_scheduler = arguments.role == "scheduler"
    flag = "--scheduler_manage_address" if at_scheduler else "--http_server_address"
    address = arguments.scheduler_manage_address if at_scheduler else arguments.http_server_address
    host = split_address(address, flag)[0]
    checks = [Check("configuration", OK, f"{arguments.yaml_config}: job {config.fl_name}; {timeouts.shown(config)}")]
    try:
        require_protected(host, flag, config)
    except UserError as error:
        checks.append(Check("address", ERROR, str(error)))
    plan = Plan(
        role=arguments.role,
        config=config,
        address=address,
        run_dir=make_job(config, arguments).run_dir,
        model_yaml="" if at_scheduler else arguments.config,
        pre_trained=arguments.pre_trained,
        checkpoint_dir=arguments.checkpoint_dir,
        dataset_path=arguments.dataset_path,
        count=arguments.local_worker_num,
        first=arguments.first_worker_index,
        silo=arguments.silo,
        servers=arguments.local_server_num,
        tcp_server_ip=arguments.tcp_server_ip,
    )
    return checks + run_checks(plan)


def show(checks: List[Check], console: Console) -> None:
    """Print the table."""
    table = Table()
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found", overflow="fold")
    for found in checks:
        table.add_row(found.what, Text(found.result, COLOURS[found.result]), Text(found.found))
    console.print(table)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    checks = check(arguments)
    counts: Dict[str, int] = {result: sum(found.result == result for found in checks) for result in COLOURS}
    if arguments.json:
        listed: List[Dict[str, Any]] = [vars(found) for found in checks]
        print(json.dumps({"role": arguments.role, "good": not counts[ERROR], "counts": counts, "checks": listed}))
    else:
        show(checks, Console())
    return 1 if counts[ERROR] else 0


if __name__ == "__main__":
    run_main(main)
