"""The benchmark of many workers on a small model: it measures, and the server's memory does not grow with them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "benchmarks" / "scale.py"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[2])}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)


@pytest.mark.parametrize(("rule", "held", "workers"), [("mean", 0, [2, 8]), ("median", 1, [3])])
def test_seconds_bytes_and_memory(tmp_path, rule, held, workers):
    params = 2_000_000
    options = ("--params", str(params), "--workers", *map(str, workers), "--rounds", "1", "--work_dir", str(tmp_path))
    result = run(*options, "--rule", rule, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["measured"]
    assert [row["workers"] for row in found] == workers
    for row in found:
        assert 1 <= row["gb_moved"] * 1e9 / (row["workers"] * 2 * 4 * params) < 1.01
        assert row["seconds_per_gb"] == row["seconds"] / row["gb_moved"]
        assert row["most_models"] == 5 + held * row["workers"]
        assert row["server_models"] > 2 + held * row["workers"]
        assert row["within"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_small_is_one_line():
    result = run("--rule", "median", "--workers", "2")
    assert result.returncode == 2
    assert result.stderr == (
        "error: --params, --workers, --rounds: expected at least 10000, 3 (rule median) and 1; found 7235389, 2 and 3\n"
    )
