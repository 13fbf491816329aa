"""``scripts/run_server.py`` or ``run_worker.py`` (the first argument) whose processes make no network."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

from cross_silo.errors import run_main
from cross_silo.launch.start import start_roles

MODULES = {
    "cross_silo.mistnet.server": "tests.support.mistnet_server",
    "cross_silo.mistnet.feature_trainer": "tests.support.numpy_feature_trainer",
    "cross_silo.mistnet.edge": "tests.support.uploading_edge",
}


def through(command):
    """Return a planned launch with its script run by this module."""
    return (command[0], "-m", "tests.support.mistnet_launch", *command[1:])


def start(job, roles, *arguments, **options):
    roles = [dataclasses.replace(role, command=[MODULES.get(part, part) for part in role.command]) for role in roles]
    return start_roles(job, roles, *arguments, **options)


if __name__ == "__main__":
    del sys.argv[0]
    found = importlib.util.spec_from_file_location(Path(sys.argv[0]).stem, sys.argv[0])
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    script.start_roles = start
    run_main(script.main)
