"""The command that tells what a model costs, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "faster_rcnn_tiny.yaml"


def run(*arguments):
    command = [sys.executable, ROOT / "tools" / "model_info.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)


def test_a_model_in_json():
    done = run("--config", TINY, "--num_classes", "3", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    total, parts = report["total"], report["parts"].values()
    assert total["parameters"] == total["trainable"] + total["frozen"] > 0
    assert total["macs"] == sum(part["macs"] for part in parts) > 0
    assert total["activation_bytes"] > 0 and "multiply-adds" in report["counted"]


def test_a_model_as_a_table_or_one_line_of_error(tmp_path):
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 32\nimg_width: 32\n")
    done = run("--config", tmp_path / "model.yaml")
    assert done.returncode == 2 and "num_classes is 0" in done.stderr and done.stderr.count("\n") == 1
    table = run("--config", TINY, "--num_classes", "3").stdout
    assert "backbone" in table and "parameters, " in table and "trainable" in table
