"""The command that detects in a directory of images, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from tests.support.colour_squares import NAMES, write_set

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, ROOT / "tools" / "detect.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture
def flags(tmp_path):
    write_set(tmp_path)
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\n")
    shapes = {"conv.weight": (4, 3, 3, 3), "threshold": ()}
    shapes.update({f"bn.{name}": (4,) for name in ("gamma", "beta", "moving_mean", "moving_variance")})
    weights = {name: np.full(shape, 150, np.float32) for name, shape in shapes.items()}
    write_checkpoint(tmp_path / "a.ckpt", weights, CheckpointInfo(classes=NAMES))
    return {
        "--config": tmp_path / "model.yaml",
        "--checkpoint": tmp_path / "a.ckpt",
        "--images": tmp_path / "images",
        "--out": tmp_path / "out",
    }


def listed(flags):
    return [word for pair in flags.items() for word in pair]


def test_detects_draws_and_skips(flags, tmp_path):
    with Image.open(tmp_path / "images" / "2.png") as image:
        image.resize((128, 96), Image.NEAREST).save(tmp_path / "images" / "2.png")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    done = run(*listed(flags), "--json")
    assert done.returncode == 0, done.stderr
    assert "skipped notes.txt: neither JPEG nor PNG\n" in done.stderr
    report = json.loads(done.stdout)
    assert (report["images"], report["detections"]) == (5, 15)
    assert report["images_per_second"] > 0 and report["network_images_per_second"] > 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["classes"] == list(NAMES)
    assert results["skipped"] == [{"file_name": "notes.txt", "reason": "neither JPEG nor PNG"}]
    truth = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    for place, image in enumerate(results["images"]):
        factor = 2 if image["file_name"] == "2.png" else 1
        assert (image["height"], image["width"]) == (48 * factor, 64 * factor)
        assert [entry["class"] for entry in image["detections"]] == list(NAMES)
        for entry, annotation in zip(image["detections"], truth[3 * place : 3 * place + 3]):
            np.testing.assert_allclose(entry["bbox"], np.multiply(annotation["bbox"], factor), atol=2)
        with Image.open(tmp_path / "out" / f"{image['file_name']}.png") as picture:
            assert picture.size == (640, 480)
    assert "5 images in " in (again := run(*listed(flags))).stdout and "images/s" in again.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--images": "nowhere"}, "--images nowhere: no such directory"),
        ({"--score": "1.5"}, "--score is 1.5, expected 0 to 1"),
        ({"--out": "images"}, "the directory of the images"),
        ({"--images": "text"}, "none of its 1 files is a readable image"),
    ],
)
def test_mistakes_are_one_line(flags, tmp_path, changes, message):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no image")
    paths = {name: tmp_path / value if value in ("images", "text") else value for name, value in changes.items()}
    done = run(*listed({**flags, **paths}))
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(lines) == 1 and message in lines[0], done.stderr
    assert "Traceback" not in done.stderr
