"""The generator of synthetic data, as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.data.image_file import check_image
from cross_silo.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "make_synthetic_coco.py"
spec = importlib.util.spec_from_file_location("make_synthetic_coco", TOOL)
make_synthetic_coco = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_synthetic_coco)


def make(capsys, out, *arguments, num_images=5):
    capsys.readouterr()
    size = ("--size", "64", "96")
    assert (
        make_synthetic_coco.main(["--out", str(out), "--num_images", str(num_images), *size, "--json", *arguments]) == 0
    )
    return json.loads(capsys.readouterr().out)


def test_a_data_set_that_its_reader_takes(capsys, tmp_path):
    summary = make(capsys, tmp_path / "a", "--classes", "4")
    dataset = read_coco(summary["annotations"])
    assert summary["annotations"] == str(tmp_path / "a" / "annotations.json")
    assert [category.name for category in dataset.categories] == ["circle", "square", "triangle", "star"]
    assert summary["images"] == len(dataset.images) == 5
    assert sum(summary["boxes"].values()) == len(dataset.annotations)
    for image in dataset.images:
        data = (tmp_path / "a" / "images" / image["file_name"]).read_bytes()
        assert check_image(data) == (image["height"], image["width"]) == (64, 96)


def test_the_seed_and_the_set_decide(capsys, tmp_path):
    def pixels(name, *arguments):
        make(capsys, tmp_path / name, *arguments)
        return np.asarray(Image.open(tmp_path / name / "images" / "000000.jpg"))

    first = pixels("a", "--seed", "3")
    np.testing.assert_array_equal(first, pixels("b", "--seed", "3"))
    assert not np.array_equal(first, pixels("c", "--seed", "4"))
    assert not np.array_equal(first, pixels("d", "--seed", "3", "--validation"))


def test_is_fast(capsys, tmp_path):
    """Thousands of images a minute: 200 within 6 seconds, on a busy machine too."""
    started = time.process_time()
    make(capsys, tmp_path / "a", num_images=200)
    assert time.process_time() - started < 6


def test_a_data_set_is_not_replaced_unasked(capsys, tmp_path):
    make(capsys, tmp_path / "a")
    with pytest.raises(UserError, match="--overwrite"):
        make(capsys, tmp_path / "a")
    assert make(capsys, tmp_path / "a", "--overwrite", num_images=3)["images"] == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--num_images", "0"], "--num_images: found 0"),
        (["--classes", "2"], "--classes: found 2; expected 3 to 6"),
        (["--classes", "7"], "--classes: found 7"),
        (["--size", "20", "100"], "--size: found 20 100"),
        (["--seed", "-3"], "--seed: found -3"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, arguments, expected):
    with pytest.raises(UserError, match=expected):
        make(capsys, tmp_path / "a", *arguments)
    assert not (tmp_path / "a").exists()


def test_table_as_a_user_sees_it(tmp_path):
    command = [sys.executable, str(TOOL), "--out", str(tmp_path / "a"), "--num_images", "2"]
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "triangle" in result.stdout
    assert str(tmp_path / "a" / "annotations.json") in result.stdout
