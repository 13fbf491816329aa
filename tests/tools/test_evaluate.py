"""The command that measures a checkpoint, as a user runs it."""

import importlib.util
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
    pictures = ("--pictures", tmp_path / "pictures", "--num_pictures", "2", "--curves", tmp_path / "curves.png")
    as_json = run(*arguments, "--json", "--out", tmp_path / "found.json", *pictures)
    assert as_json.returncode == 0, as_json.stderr
    report = json.loads(as_json.stdout)
    assert report["round"] == 4 and report["AP50"] == pytest.approx(1) and report["APl"] is None
    assert len(json.loads((tmp_path / "found.json").read_text())) == 15
    assert report["confusion"]["counts"] == [[5, 0, 0, 0], [0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 0]]
    assert report["confusion"]["labels"][-1] == "background" and report["confusion"]["score"] == 0.5
    assert [Path(file).name for file in report["files"]] == ["found.json", "curves.png", "1_1.png", "3_3.png"]
    assert all(Path(file).stat().st_size for file in report["files"])
    table = run(*arguments).stdout
    assert "AP75" in table and "green" in table and "1.000" in table and "as background" in table
    strict = run(*arguments, "--json", "--score", "0.85")  # the third's scores are 0.8
    assert json.loads(strict.stdout)["confusion"]["counts"][2] == [0, 0, 0, 5]
    wrong = run(*arguments[:3], tmp_path / "nowhere.ckpt", *arguments[4:])
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: checkpoint ") and wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--score", "2", "--score is 2, expected 0 to 1"),
        ("--curves", "a.pdf", "--curves is a.pdf, expected a name that ends in .png"),
        ("--out", "nowhere/found.json", "--out is nowhere/found.json: its directory does not exist"),
        ("--pictures", __file__, "not a directory"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(flag, value, message):
    done = run("--config", "m", "--checkpoint", "c", "--annotations", "a", "--image_dir", "i", flag, value)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_many_classes_show_their_most_frequent_confusions():
    spec = importlib.util.spec_from_file_location("evaluate", ROOT / "tools" / "evaluate.py")
    evaluate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(evaluate)
    number = evaluate.MOST_CLASSES + 2
    counts = np.diag(np.full(number, 50))
    counts[3, 5], counts[2, number - 1] = 9, 4
    labels = [*(f"c{i}" for i in range(number - 1)), "background"]
    table = evaluate.confusion_as_table({"labels": labels, "counts": counts.tolist(), "score": 0.5, "iou": 0.5})
    assert [list(column.cells) for column in table.columns] == [["c3", "c2"], ["c5", "background"], ["9", "4"]]
