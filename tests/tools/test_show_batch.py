"""The picture of a training batch, as a user makes it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.batch import Batch
from cross_silo.data.coco import read_coco
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.report.drawing import Box
from tests.support.colour_squares import write_set
from tools.show_batch import drawn, grid

ROOT = Path(__file__).parents[2]


DETECTOR = """
from cross_silo.data.transforms import HorizontalFlip, Mosaic, RandomAffine
from tests.support import tiny_detector

class Detector(tiny_detector.Detector):
    def train_transforms(self):
        return [Mosaic(48, 64, 0.5), RandomAffine(48, 64, 0, 0, 0, 0), HorizontalFlip(0.5)]
"""


def run(*arguments):
    command = [sys.executable, ROOT / "tools" / "show_batch.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.path.dirname(arguments[1])))}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture
def flags(tmp_path):
    write_shards(read_coco(write_set(tmp_path)), str(tmp_path / "images"), str(tmp_path / "mindrecord_0"))
    (tmp_path / "shown.py").write_text(DETECTOR)
    model = "detector: shown\nimg_height: 48\nimg_width: 64\nbatch_size: 5\nnum_gts: 2\n"
    (tmp_path / "model.yaml").write_text(model)
    return {
        "--config": tmp_path / "model.yaml",
        "--dataset_dir": tmp_path / "mindrecord_0",
        "--out": tmp_path / "new" / "batch.png",
    }


def listed(flags):
    return [word for pair in flags.items() for word in pair]


def test_batches_are_drawn_below_each_other(flags):
    done = run(*listed(flags), "--batches", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for number, line in enumerate(lines[:2], 1):
        assert re.fullmatch(rf"batch {number}: images [1-5](, [1-5]){{4}}; \d+ objects, 0 crowd regions", line)
    assert re.fullmatch(r"\d+ boxes have found no room: num_gts is 2", lines[2])
    assert lines[3:] == [str(flags["--out"])]
    with Image.open(flags["--out"]) as image:
        assert image.size == (4 * 640 + 3 * 8, 4 * 480 + 2 * 8 + 16)
    assert [path.name for path in flags["--out"].parent.iterdir()] == ["batch.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--batches": "0"}, "--batches is 0"),
        ({"--out": "batch.gif"}, "--out is batch.gif"),
        ({"--dataset_dir": "nowhere"}, "nowhere: no such directory"),
    ],
)
def test_mistakes_are_named(flags, change, message):
    done = run(*listed({**flags, **change}))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}"), done.stderr


def test_boxes_of_a_batch():
    boxes = np.array([[[1, 2, 5, 9], [0, 0, 4, 4], [0, 0, 0, 0]]], np.float32)
    batch = Batch(
        np.zeros((1, 16, 16, 3), np.uint8),
        boxes,
        np.array([[1, 0, 0]], np.int32),
        np.array([[1, -1, 0]], np.int32),
        np.zeros(1, np.int64),
    )
    assert drawn(batch, ["a", "b"]) == [
        [Box((1, 2, 4, 7), 1, "b"), Box((0, 0, 4, 4), 0, "a (crowd)", dashed=True)],
    ]


def test_grid():
    images = [Image.new("RGB", (10, 6), (index, 0, 0)) for index in range(5)]
    page = grid(images)
    assert page.size == (4 * 10 + 3 * 8, 2 * 6 + 8)
    assert [page.getpixel(place)[0] for place in ((0, 0), (18, 0), (54, 5), (0, 14), (18, 14))] == [0, 1, 3, 4, 255]
    assert grid(images[:2]).size == (28, 6)
