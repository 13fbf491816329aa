"""The Python that runs the wheel's roles: that of .venv-engine, or the one that a variable names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Dict

from cross_silo.errors import UserError

PYTHON = "MINDSPORE_FEDERATED_PYTHON"
"""Environment variable with another interpreter than .venv-engine's."""
ROOT = Path(__file__).resolve().parents[3]
LOG_LEVEL = "GLOG_v"
CRASHES, QUIET = "0", "2"
"""The level at which the wheel dies when it is loaded, and its default."""


def find_python() -> str:
    """Return the interpreter, which can load the engine. Raises UserError with the remedy."""
    python = os.environ.get(PYTHON) or str(ROOT / ".venv-engine" / "bin" / "python")
    told = f"{PYTHON} is {python}" if os.environ.get(PYTHON) else f"{python} is not there"
    if not os.access(python, os.X_OK):
        raise UserError(f"engine mindspore_federated: {told}; expected what bash scripts/setup_engine.sh makes")
    command = [python, "-m", "cross_silo.engines.mindspore_federated.extension"]
    done = subprocess.run(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        last = (done.stdout.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise UserError(
            f"engine mindspore_federated: {python} cannot run it: {last.replace('error: ', '', 1)}; "
            "run bash scripts/setup_engine.sh"
        )
    return python


def environment() -> Dict[str, str]:
    """Return this process's variables with those that a process of the wheel needs."""
    return {**os.environ, **added_environment()}


def added_environment() -> Dict[str, str]:
    """Return the variables that a process of the wheel needs."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    level = os.environ.get(LOG_LEVEL, QUIET)
    return {"PYTHONPATH": path, LOG_LEVEL: QUIET if level == CRASHES else level}
