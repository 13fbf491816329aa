"""Start worker 0 on the devices of its silo; its log goes to worker_distributed/log_output/."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import load_federated
from cross_silo.config.model import load_model
from cross_silo.errors import UserError, run_main
from cross_silo.launch.arguments import make_job, make_parser, positive, yes_or_no
from cross_silo.launch.start import start_roles
from cross_silo.launch.workers import WorkerPlan, worker_roles
from cross_silo.preflight.run import check_workers

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LOG = "worker_distributed/log_output/worker.log"


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--yaml_config", default=str(CONFIGS / "federated.yaml"), help="federated YAML")
    parser.add_argument("--config", default=str(CONFIGS / "faster_rcnn_r50_fpn.yaml"), help="model YAML")
    parser.add_argument("--device_num", type=positive, default=1, help="devices that train together in the silo")
    parser.add_argument("--run_distribute", type=yes_or_no, default=False, help="True: data parallelism over them")
    parser.add_argument("--dataset_path", required=True, type=Path, help="directory that holds mindrecord_0")
    parser.add_argument("--http_server_address", default="127.0.0.1:6668", help="host:port of the server")
    return parser.parse_args(argv)


def check_devices(arguments: argparse.Namespace) -> None:
    """Refuse more devices than one. Raises UserError with the reason."""
    if arguments.device_num == 1:
        return
    found = f"--device_num is {arguments.device_num}"
    if not arguments.run_distribute:
        raise UserError(f"{found} with --run_distribute False; expected 1 device without data parallelism")
    target = load_model(arguments.config).config.device_target
    if target == "CPU":
        raise UserError(
            f"{found}, but device_target is CPU in {arguments.config}: MindSpore's data parallelism needs "
            "several Ascend or GPU devices; expected 1"
        )
    raise UserError(f"{found} on {target}, expected 1: a worker of this version trains on one device")


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    check_devices(arguments)
    config = load_federated(arguments.yaml_config, arguments.auth_dir)
    job = make_job(config, arguments)
    plan = WorkerPlan(
        yaml_config=arguments.yaml_config,
        config=arguments.config,
        dataset_path=arguments.dataset_path,
        http_server_address=arguments.http_server_address,
        run_dir=job.run_dir,
    )
    roles = [dataclasses.replace(role, log=LOG) for role in worker_roles(plan, config)]
    check_workers(plan, config)
    return start_roles(job, roles, arguments.foreground)


if __name__ == "__main__":
    run_main(main)
