"""Run a Sedna FederatedLearningJob from its manifests on this machine: check, plan, start, show and end it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import split_address
from cross_silo.errors import UserError, run_main
from cross_silo.sedna.deliverer import delivery, load_plan
from cross_silo.sedna.environment import PARSERS
from cross_silo.sedna.job import Options, plan_job
from cross_silo.sedna.launch import delete, run
from cross_silo.sedna.manifests import named_job
from cross_silo.sedna.nodes import read_nodes
from cross_silo.sedna.placeholders import parse_assignments
from cross_silo.sedna.roles import Trial
from cross_silo.sedna.show import as_json, as_shell
from cross_silo.sedna.status_document import status_document, status_table, status_yaml


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--manifests", nargs="+", default=[], help="YAML or JSON files, or texts with kubectl ... <<EOF; -: stdin"
    )
    parser.add_argument("--job", default="", help="the FederatedLearningJob, where the manifests have several")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="value of $NAME in them")
    parser.add_argument("--nodes", help="the cluster's nodes: names, or kubectl get nodes -o yaml; -: stdin")
    parser.add_argument("--extensions", action="store_true", help="read fields of Sedna's proposals")
    parser.add_argument(
        "--set_env", action="append", default=[], metavar="NAME=VALUE", help="variable of every container, for a trial"
    )
    parser.add_argument("--transmitter", default="", choices=("", "ws", "s3"), help="in place of the job's")
    parser.add_argument(
        "--path_map", action="append", default=[], metavar="/PATH=/PATH", help="a node's directory on this machine"
    )
    parser.add_argument("--http_server_address", default="127.0.0.1:7363", help="host:port of the aggregator")
    parser.add_argument("--redis_address", default="127.0.0.1:2345", help="host:port of the job's Redis")
    parser.add_argument("--scheduler_manage_address", default="127.0.0.1:18019", help="host:port of the REST")
    parser.add_argument("--run_dir", type=Path, help="where roles write; runs/{job} if not given")
    parser.add_argument("--foreground", action="store_true", help="stay until the final model is written")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry_run", action="store_true", help="check, print the plan as a shell script, start nothing")
    what.add_argument("--status", choices=("table", "yaml"), nargs="?", const="table", help="show how the job stands")
    what.add_argument("--delete", action="store_true", help="end the job's processes; files stay")
    parser.add_argument("--json", action="store_true", help="with --dry_run: print the plan as JSON")
    return parser.parse_args(argv)


def options(arguments: argparse.Namespace) -> Options:
    """Return what the command line says besides the manifests. Raises UserError."""
    host, port = split_address(arguments.http_server_address, "--http_server_address")
    for flag in ("redis_address", "scheduler_manage_address"):
        split_address(getattr(arguments, flag), f"--{flag}")
    set_env = parse_assignments("--set_env", arguments.set_env)
    path_map = parse_assignments("--path_map", arguments.path_map)
    for name in set_env:
        if name.lower() not in PARSERS:
            raise UserError(f"--set_env {name}: nothing here reads it; expected one of {', '.join(PARSERS)}")
    for pair in path_map.items():
        if not all(path.startswith("/") for path in pair):
            raise UserError(f"--path_map is {'='.join(pair)!r}, expected /PATH=/PATH, both from the root")
    trial = Trial(
        set_env=set_env,
        transmitter=arguments.transmitter,
        path_map=path_map,
        host=host,
        port=port,
    )
    return Options(
        job=arguments.job,
        values=parse_assignments("--set", arguments.set),
        nodes=read_nodes(arguments.nodes) if arguments.nodes else None,
        extensions=arguments.extensions,
        trial=trial,
        run_dir=arguments.run_dir,
        redis_address=arguments.redis_address,
        scheduler_manage_address=arguments.scheduler_manage_address,
    )


def find_run_dir(arguments: argparse.Namespace) -> Path:
    """Return the run directory of the job that is meant. Raises UserError."""
    if arguments.run_dir is not None:
        return arguments.run_dir.resolve()
    return (
        Path("runs") / named_job(arguments.manifests, arguments.job, parse_assignments("--set", arguments.set))
    ).resolve()


def show_status(run_dir: Path, form: str) -> int:
    """Print how the job in ``run_dir`` stands. Raises UserError where none was started there."""
    document = status_document(run_dir, load_plan(run_dir))
    document["crossSilo"]["model"].update(delivery(run_dir))
    print(status_yaml(document) if form == "yaml" else status_table(document))
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    started_before = arguments.delete or arguments.status
    if not arguments.manifests and not (started_before and (arguments.job or arguments.run_dir)):
        raise UserError("--manifests is missing; expected the job's manifests (to end or show it: --job or --run_dir)")
    if arguments.json and not arguments.dry_run:
        raise UserError("--json prints a plan and starts nothing; expected --dry_run with it")
    if arguments.delete:
        delete(find_run_dir(arguments))
        return 0
    if arguments.status:
        return show_status(find_run_dir(arguments), arguments.status)
    planned = plan_job(arguments.manifests, options(arguments))
    if arguments.dry_run:
        print(as_json(planned.plan) if arguments.json else as_shell(planned.plan))
        return 0
    for note in planned.plan.notes:
        print(f"note: {note}", file=sys.stderr)
    return run(planned, arguments.foreground)


if __name__ == "__main__":
    run_main(main)
