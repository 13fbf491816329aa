"""Runs a module that imports MindSpore in a process of its own, so that this one never does."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Sequence

from cross_silo.errors import UserError

log = logging.getLogger(__name__)


def run_child(module: str, arguments: Sequence[str], what: str, failure: str) -> None:
    """Run ``python -m module`` to its end; its output is logged, each line after ``what``.

    Raises:
        UserError: it failed; ``failure``, then what it says of it.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    for line in lines:
        log.info("%s: %s", what, line)
    if done.returncode:
        errors = [line for line in lines if line.startswith("error: ")] or lines[-1:] or ["no output"]
        raise UserError(f"{failure}: {errors[-1].replace('error: ', '', 1)}")
