"""The wheel's C++ scheduler, for tools that speak with it; training and our management REST do without it."""

from __future__ import annotations

import argparse
import ctypes
import signal
from pathlib import Path
from typing import List, Optional

from cross_silo.config.federated import load_federated
from cross_silo.engines.mindspore_federated.extension import SCHEDULER, configure, load
from cross_silo.engines.mindspore_federated.settings import engine_settings
from cross_silo.errors import UserError, run_main

PR_SET_PDEATHSIG = 1


def parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    """Parse the scheduler process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m cross_silo.engines.mindspore_federated.wheel_scheduler", description=__doc__
    )
    parser.add_argument("--yaml_config", required=True, help="federated YAML")
    parser.add_argument("--address", required=True, help="IPv4:port of the engine's own REST")
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> int:
    """Serve until SIGTERM, which the engine handles itself, or until the parent process is gone."""
    arguments = parse(argv)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    config = load_federated(arguments.yaml_config)
    engine = load()
    engine.FLContext.get_instance().set_scheduler_manage_address(arguments.address)
    configure(engine, engine_settings(config, Path()), SCHEDULER, arguments.yaml_config)
    try:
        engine.Federated_.start_federated_scheduler()
    except RuntimeError as error:
        raise UserError(f"the engine's scheduler ended: {error}") from None
    return 0


if __name__ == "__main__":
    run_main(main)
