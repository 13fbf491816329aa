"""The benchmark of the engines on a small model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cross_silo.launch import proc

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "tools" / "benchmarks" / "engines.py"
NEEDS_INTEROP = pytest.mark.skipif(
    not (ROOT / ".venv-interop" / "bin" / "python").exists(), reason="no .venv-interop: bash scripts/setup_interop.sh"
)


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=900)


@pytest.mark.long
@NEEDS_INTEROP
def test_each_worker_with_each_server(tmp_path):
    params = 200_000
    result = run("--params", str(params), "--rounds", "1", "--work_dir", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    pairs = [(pair["worker"], pair["server"]) for pair in found["pairs"]]
    assert pairs == [(worker, server) for server in ("the wheel's", "ours") for worker in ("the wheel's", "ours")]
    for pair in found["pairs"]:
        assert pair["seconds"] > 0 and pair["worker_peak_mb"] > 20 and pair["server_peak_mb"] > 20
        for direction in ("bytes_up", "bytes_down"):
            assert 1 <= pair[direction] / (2 * 4 * params) < 1.2
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_one_line():
    result = run("--params", "5")
    assert result.returncode == 2
    assert result.stderr == "error: --params, --workers, --rounds: expected at least 10000, 1 and 1\n"


@pytest.mark.long
@NEEDS_INTEROP
def test_sigterm_leaves_nothing_behind(tmp_path):
    """Wherever it is: while servers start, with workers under way; its Redis ends, too."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(TOOL), "--params", "10000", "--rounds", "100", "--work_dir", str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while len(children(process.pid)) < 4:  # Redis, the front, a server, a worker
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        found = children(process.pid)
        process.terminate()
        assert process.wait(timeout=120) == 128 + signal.SIGTERM
    assert proc.wait_gone(found, 20.0) == []
    assert list(tmp_path.iterdir()) == []


def children(pid):
    """(pid, start time) of a process's children, and of the Redis that it started."""
    found = [int(entry) for path in Path(f"/proc/{pid}/task").glob("*/children") for entry in path.read_text().split()]
    return [(child, proc.start_time(child) or 0) for child in found]
