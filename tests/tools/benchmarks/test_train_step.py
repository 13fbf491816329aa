"""The benchmark of a training step on a tiny detector: it measures the step and its parts."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "tools" / "benchmarks" / "train_step.py"


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(TOOL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)


def test_step_and_parts():
    config = ROOT / "configs" / "faster_rcnn_tiny.yaml"
    result = run("--config", str(config), "--steps", "2", "--parts", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    ours = found["ours"]
    assert ours["seconds"] > 0 and ours["compile_seconds"] > ours["seconds"] and 200 < ours["peak_mb"] < 2000
    assert list(found["parts"])[-1] == "all forward"
    for name in ("backbone", "fpn", "rpn head", "roi align", "box head"):
        assert found["parts"][name]["forward"] > 0 and found["parts"][name]["gradient"] >= 0
    assert "ratio" not in found


def test_a_checkout_without_the_peer_is_one_line(tmp_path):
    result = run("--peer", str(tmp_path))
    assert result.returncode == 2
    assert result.stderr == (
        f"error: --peer: {tmp_path} has no src/FasterRcnn/faster_rcnn.py; expected official/cv/FasterRCNN "
        "of a mindspore-ai/models checkout\n"
    )
