"""The scheduler of this engine: our management REST, and the wheel's own scheduler as a child beside it."""

from __future__ import annotations

import argparse
import logging
import subprocess
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import load_federated
from cross_silo.coordination import connect
from cross_silo.engines.mindspore_federated.environment import environment, find_python
from cross_silo.engines.native import scheduler as native
from cross_silo.errors import run_main
from cross_silo.launch import logs

log = logging.getLogger(__name__)

END_SECONDS = 2.0


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the scheduler process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m cross_silo.engines.mindspore_federated.scheduler", description=__doc__
    )
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--scheduler_manage_address", required=True, help="host:port of the management REST")
    parser.add_argument("--wheel_address", required=True, help="IPv4:port of the wheel's scheduler")
    parser.add_argument("--run_dir", required=True, type=Path, help="the job's run directory")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Run both to the job's end: 0 if it finished or was stopped, 1 if it failed."""
    arguments = parse(argv)
    logs.start(native.ROLE)
    common = ["--yaml_config", arguments.yaml_config]
    # the child waits for a Redis that is not there; the native part keeps it alive from here on
    connect(load_federated(arguments.yaml_config).distributed_cache, start_embedded=True, user=native.ROLE).close()
    command = [find_python(), "-m", "cross_silo.engines.mindspore_federated.wheel_scheduler", *common]
    child = subprocess.Popen([*command, "--address", arguments.wheel_address], env=environment())
    log.info("the wheel's scheduler (pid %d) serves at %s", child.pid, arguments.wheel_address)
    common += ["--scheduler_manage_address", arguments.scheduler_manage_address, "--run_dir", str(arguments.run_dir)]
    try:
        return native.main(common)
    finally:
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


if __name__ == "__main__":
    run_main(main)
