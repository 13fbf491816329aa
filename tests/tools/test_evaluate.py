"""The command that measures a checkpoint, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from tests.support.colour_squares import write_set

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, ROOT / "tools" / "evaluate.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)


def test_measures_a_checkpoint(tmp_path):
    annotations = write_set(tmp_path)
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\n")
    shapes = {"conv.weight": (4, 3, 3, 3), "threshold": ()}
    shapes.update({f"bn.{name}": (4,) for name in ("gamma", "beta", "moving_mean", "moving_variance")})
    weights = {name: np.full(shape, 200, np.float32) for name, shape in shapes.items()}
    write_checkpoint(tmp_path / "a.ckpt", weights, CheckpointInfo(round=4))
    arguments = ("--config", tmp_path / "model.yaml", "--checkpoint", tmp_path / "a.ckpt",
                 "--annotations", annotations, "--image_dir", tmp_path / "images")  # fmt: skip
    as_json = run(*arguments, "--json", "--out", tmp_path / "found.json")
    assert as_json.returncode == 0, as_json.stderr
    report = json.loads(as_json.stdout)
    assert report["round"] == 4 and report["AP50"] == pytest.approx(1) and report["APl"] is None
    assert len(json.loads((tmp_path / "found.json").read_text())) == 15
    table = run(*arguments).stdout
    assert "AP75" in table and "green" in table and "1.000" in table
    wrong = run(*arguments[:3], tmp_path / "nowhere.ckpt", *arguments[4:])
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: checkpoint ") and wrong.stderr.count("\n") == 1
