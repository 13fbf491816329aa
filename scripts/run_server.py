"""Start a job's server, its evaluator where the federated YAML configures one, with MistNet what trains on features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from cross_silo.config import timeouts
from cross_silo.config.federated import load_federated
from cross_silo.config.mistnet import require_algorithm
from cross_silo.engines import ServerPlan, find_engine
from cross_silo.errors import run_main
from cross_silo.launch.arguments import make_job, make_parser, positive
from cross_silo.launch.start import start_roles
from cross_silo.preflight.plan import Plan
from cross_silo.preflight.run import check_launch


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--config", help="model YAML: makes round 0's model where there is none, and evaluates")
    parser.add_argument("--pre_trained", default="", help="checkpoint that round 0's model starts from")
    parser.add_argument("--tcp_server_ip", default="127.0.0.1", help="address at which servers reach each other")
    parser.add_argument("--checkpoint_dir", required=True, type=Path, help="the global model's checkpoints")
    parser.add_argument("--local_server_num", type=positive, default=1, help="servers on this machine")
    parser.add_argument("--http_server_address", default="127.0.0.1:6668", help="host:port for the workers")
    parser.add_argument("--algorithm", default="", help="must be the YAML's algorithm, if given")
    parser.add_argument("--engine", help="must be the YAML's engine, if given")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    config = load_federated(arguments.yaml_config, arguments.auth_dir)
    require_algorithm(arguments.algorithm, config.algorithm, arguments.yaml_config)
    engine = find_engine(config, arguments.yaml_config, arguments.engine)
    job = make_job(config, arguments)
    plan = ServerPlan(
        yaml_config=arguments.yaml_config,
        http_server_address=arguments.http_server_address,
        tcp_server_ip=arguments.tcp_server_ip,
        checkpoint_dir=arguments.checkpoint_dir,
        run_dir=job.run_dir,
        count=arguments.local_server_num,
        config=arguments.config,
        pre_trained=arguments.pre_trained,
    )
    roles = engine.server_roles(plan, config)
    check_launch(
        Plan(
            "server",
            config,
            plan.http_server_address,
            job.run_dir,
            pre_trained=plan.pre_trained,
            checkpoint_dir=plan.checkpoint_dir,
            servers=plan.count,
            tcp_server_ip=plan.tcp_server_ip,
        )
    )
    status = start_roles(job, roles, arguments.foreground, one_by_one=True)
    print(timeouts.shown(config))
    return status


if __name__ == "__main__":
    run_main(main)
