"""Start workers: worker i trains on dataset_path/mindrecord_{i}, for the silo silo_{i}."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import load_federated
from cross_silo.config.mistnet import require_algorithm
from cross_silo.errors import run_main
from cross_silo.launch.arguments import make_job, make_parser, not_negative, positive
from cross_silo.launch.start import start_roles
from cross_silo.launch.workers import WorkerPlan, worker_roles
from cross_silo.preflight.run import check_workers

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "faster_rcnn_r50_fpn.yaml"


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--config", default=str(CONFIG), help="model YAML")
    parser.add_argument("--local_worker_num", type=positive, default=1, help="workers to start")
    parser.add_argument("--first_worker_index", type=not_negative, default=0, help="index of the first of them")
    parser.add_argument("--silo", default="", help="name of the silo of a single worker")
    parser.add_argument("--pre_trained", default="", help="checkpoint that the job's round 0 must have come from")
    parser.add_argument("--dataset_path", required=True, type=Path, help="directory that holds mindrecord_{i}")
    parser.add_argument("--val_annotations", default="", help="COCO json of the silo's own validation set; {i}: index")
    parser.add_argument("--val_image_dir", default="", help="directory that its file names are relative to; {i}: index")
    parser.add_argument("--http_server_address", default="127.0.0.1:6668", help="host:port of the server")
    parser.add_argument("--algorithm", default="", help="must be the YAML's algorithm, if given")
    parser.add_argument("--threads", type=positive, help="OpenMP threads a worker; the cores are shared if not given")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    config = load_federated(arguments.yaml_config, arguments.auth_dir)
    require_algorithm(arguments.algorithm, config.algorithm, arguments.yaml_config)
    job = make_job(config, arguments)
    plan = WorkerPlan(
        yaml_config=arguments.yaml_config,
        config=arguments.config,
        dataset_path=arguments.dataset_path,
        http_server_address=arguments.http_server_address,
        run_dir=job.run_dir,
        count=arguments.local_worker_num,
        first=arguments.first_worker_index,
        silo=arguments.silo,
        pre_trained=arguments.pre_trained,
        val_annotations=arguments.val_annotations,
        val_image_dir=arguments.val_image_dir,
        threads=arguments.threads,
    )
    roles = worker_roles(plan, config)
    check_workers(plan, config)
    return start_roles(job, roles, arguments.foreground)


if __name__ == "__main__":
    run_main(main)
