"""``scripts/run_worker.py`` whose workers have numpy's trainer."""

import functools
import importlib.util
from pathlib import Path

from cross_silo.errors import run_main
from cross_silo.launch.workers import worker_roles

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run_worker.py"

if __name__ == "__main__":
    found = importlib.util.spec_from_file_location("run_worker", SCRIPT)
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    script.worker_roles = functools.partial(worker_roles, module="tests.support.numpy_worker")
    run_main(script.main)
