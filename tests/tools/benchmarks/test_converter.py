"""The converter's benchmark on a few images."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "benchmarks" / "converter.py"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[2])}
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )


def test_prints_both_rates_and_their_ratio(tmp_path):
    result = run("--num_images", "300", "--repeats", "1", "--shards", "2", "--work_dir", str(tmp_path), "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    rates = summary["images_per_second"]
    assert set(rates) == {"reading alone", "row by row", "converter"}
    assert abs(summary["ratio"] - rates["converter"] / rates["row by row"]) < 0.02
    assert set(summary["cpu_seconds"]) == set(rates)
    assert summary["images"] == 300
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named():
    result = run("--annotations", "some.json")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --annotations, --image_dir: found one")
