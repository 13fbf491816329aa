"""Start a job's scheduler: its management REST, over Redis."""

from __future__ import annotations

import argparse
from typing import List, Optional

from cross_silo.config.federated import load_federated
from cross_silo.engines import SchedulerPlan, find_engine
from cross_silo.errors import run_main
from cross_silo.launch.arguments import make_job, make_parser
from cross_silo.launch.start import start_roles
from cross_silo.preflight.plan import Plan
from cross_silo.preflight.run import check_launch


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--scheduler_manage_address", default="127.0.0.1:18019", help="host:port of the REST")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    config = load_federated(arguments.yaml_config, arguments.auth_dir)
    job = make_job(config, arguments)
    plan = SchedulerPlan(arguments.yaml_config, arguments.scheduler_manage_address, job.run_dir)
    roles = find_engine(config, arguments.yaml_config).scheduler_roles(plan, config)
    check_launch(Plan("scheduler", config, plan.address, job.run_dir))
    return start_roles(job, roles, arguments.foreground, one_by_one=True)


if __name__ == "__main__":
    run_main(main)
