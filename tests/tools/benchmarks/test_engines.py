"""The benchmark of the engines on a small model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
