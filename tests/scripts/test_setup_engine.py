"""scripts/setup_engine.sh where no Python can load the wheel."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("python", ["/nowhere/python3.9", "/bin/false"])
def test_without_a_usable_python_it_says_what_is_needed_and_touches_nothing(python):
    stamp = ROOT / ".venv-engine" / ".set-up"
    before = stamp.read_text() if stamp.is_file() else None
    done = subprocess.run(
        ["bash", "scripts/setup_engine.sh"],
        cwd=ROOT,
        env={**os.environ, "PYTHON39": python},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, "test.sh tells this from a set-up that failed"
    assert done.stderr.startswith("error: no CPython 3.9") and "pyenv install 3.9" in done.stderr
    assert (stamp.read_text() if stamp.is_file() else None) == before
