"""The benchmark of a round on a small model: it measures, and memory stays within its bounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "benchmarks" / "round.py"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[2])}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)


def test_seconds_memory_and_bytes(tmp_path):
    params = 4_000_000
    result = run("--params", str(params), "--rounds", "2", "--work_dir", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["ratio"] == found["seconds"] / found["floor_seconds"]
    assert 1 < found["worker_models"] < 2.5
    assert 3 < found["server_models"] < 5
    for direction in ("bytes_up", "bytes_down"):
        assert 1 <= found[direction] / (2 * 4 * params) < 1.01
    assert list(tmp_path.iterdir()) == []


def test_with_certificates(tmp_path):
    result = run("--params", "200000", "--rounds", "1", "--auth", "mtls", "--work_dir", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["auth"], found["params"]) == ("mtls", 200_000)
    assert found["bytes_up"] > 2 * 4 * 200_000


def test_a_wrong_size_is_one_line():
    result = run("--params", "5")
    assert result.returncode == 2
    assert result.stderr == "error: --params, --workers, --rounds: expected at least 10000, 1 and 1\n"
