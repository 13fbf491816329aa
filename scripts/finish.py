"""End a job: all its processes on this machine, wherever their run directory is, and the embedded Redis.

A second call says that nothing runs. Without Redis the job's processes are found all the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import DistributedCache, load_federated, split_address
from cross_silo.errors import UserError, run_main
from cross_silo.launch.finish import Target, finish


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--redis_port", type=int, help="port of the job's Redis on this machine")
    where.add_argument("--redis_address", default="", help="host:port of the job's Redis")
    where.add_argument("--yaml_config", help="the job's federated YAML: Redis with ACL user and TLS, and fl_name")
    parser.add_argument("--fl_name", default="", help="the job, where several use that Redis")
    parser.add_argument("--run_dir", type=Path, help="the job's run directory, instead of or besides its Redis")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run the command."""
    arguments = parse(argv)
    address, fl_name, settings = arguments.redis_address, arguments.fl_name, DistributedCache()
    if arguments.redis_port is not None:
        address = f"127.0.0.1:{arguments.redis_port}"
    if arguments.yaml_config:
        config = load_federated(arguments.yaml_config)
        settings, fl_name = config.distributed_cache, fl_name or config.fl_name
        address = settings.address
    if address:
        split_address(address, "--redis_address" if arguments.redis_address else "--redis_port")
    elif arguments.run_dir is None:
        raise UserError("which job is not said; expected --redis_port, --redis_address, --yaml_config or --run_dir")
    run_dir = arguments.run_dir.resolve() if arguments.run_dir is not None else None
    finish(Target(address, fl_name, run_dir, settings))
    return 0


if __name__ == "__main__":
    run_main(main)
