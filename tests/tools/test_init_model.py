"""The command that makes a job's initial model, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "init_model.py", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_makes_a_checkpoint_and_names_it(tmp_path):
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nnum_classes: 3\n")
    arguments = ("--config", tmp_path / "model.yaml", "--checkpoint_dir", tmp_path / "ckpt", "--fl_name", "job")
    first = run(*arguments, "--json")
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert Path(report["checkpoint"]).parent == tmp_path / "ckpt"
    assert report["parameters"] == 4 * 27 + 4 * 4 + 1 and report["trainable"] == 4 * 27 + 2 * 4 + 1
    second = run(*arguments)
    assert second.returncode == 2
    assert second.stderr.startswith("error: --checkpoint_dir ") and second.stderr.count("\n") == 1
