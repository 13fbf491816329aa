"""The command that reads YOLO labels, as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "yolo_to_coco.py"
spec = importlib.util.spec_from_file_location("yolo_to_coco", TOOL)
yolo_to_coco = importlib.util.module_from_spec(spec)
spec.loader.exec_module(yolo_to_coco)


@pytest.fixture
def root(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind / "train2017").mkdir(parents=True)
    for index in range(2):
        Image.new("RGB", (20, 10)).save(tmp_path / "images" / "train2017" / f"{index}.jpg")
    (tmp_path / "labels" / "train2017" / "1.txt").write_text("1 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.5 0.5\n")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    return tmp_path


def arguments(root, *more):
    return [
        *("--images", str(root / "images" / "train2017")),
        *("--classes", str(root / "names.txt")),
        *("--out", str(root / "coco.json")),
        *more,
    ]


def test_labels_stand_beside_the_images(capsys, root):
    assert yolo_to_coco.main(arguments(root, "--json")) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["images"], summary["boxes"], summary["boxes_by_class"]) == (2, 1, {"cat": 0, "dog": 1})
    assert summary["skipped"] == {"class": ["1.txt:2"]}
    dataset = read_coco(root / "coco.json")
    assert dataset.annotations[0]["bbox"] == [5, 2.5, 10, 5]
    assert dataset.annotations[0]["image_id"] == 2


def test_labels_elsewhere(capsys, root):
    os.rename(root / "labels", root / "texts")
    assert yolo_to_coco.main(arguments(root, "--labels", str(root / "texts" / "train2017"), "--json")) == 0
    assert json.loads(capsys.readouterr().out)["boxes"] == 1


def test_mistakes_are_named(root):
    with pytest.raises(UserError, match="no part 'images'"):
        yolo_to_coco.main([*arguments(root), "--images", str(root / "labels")])
    with pytest.raises(UserError, match="cannot be read"):
        yolo_to_coco.main([*arguments(root), "--classes", str(root / "none.txt")])
    (root / "coco.json").write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        yolo_to_coco.main(arguments(root))
    assert (root / "coco.json").read_text() == "mine"


def test_table_as_a_user_sees_it(root):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    command = [sys.executable, str(TOOL), *arguments(root)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "2 images, 1 boxes" in result.stdout
    assert "1 left out, label: class is not in the list: 1.txt:2" in result.stdout
