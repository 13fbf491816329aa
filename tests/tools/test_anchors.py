"""The command that fits anchors, as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.errors import UserError

ROOT = Path(__file__).parents[2]
SIDES = (8, 12, 20, 30, 60, 70)  # of the boxes, in pixels of images of 50 x 100


TOOL = ROOT / "tools" / "anchors.py"
spec = importlib.util.spec_from_file_location("anchors", TOOL)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture
def run(capsys):
    """Return a function: what the command prints."""

    def call(*arguments):
        capsys.readouterr()
        assert tool.main([*map(str, arguments)]) == 0
        return capsys.readouterr().out

    return call


def make_silo(directory, images, boxes):
    """Write shards of images 100 wide and 50 high with ``boxes(image)``, lists of COCO boxes; return where."""
    directory.mkdir()
    Image.new("RGB", (100, 50)).save(directory / "image.png")
    entries = [{"id": k, "file_name": "image.png", "height": 50, "width": 100} for k in range(images)]
    found = [(k, box, crowd) for k in range(images) for box, crowd in boxes(k)]
    annotations = [
        {"id": i, "image_id": k, "category_id": 1, "bbox": box, "iscrowd": crowd}
        for i, (k, box, crowd) in enumerate(found)
    ]
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (directory / "train.json").write_text(json.dumps(content))
    dataset = read_coco(directory / "train.json")
    write_shards(dataset, str(directory), str(directory / "mindrecord_0"), keep_empty=True)
    return directory / "mindrecord_0"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(f"base: {ROOT}/configs/yolov5n.yaml\nimg_height: 64\nimg_width: 64\n")
    return path


@pytest.fixture
def silo(tmp_path):
    """Boxes of six sizes, a third of them crowd regions, an image without boxes and a box of less than a pixel."""

    def boxes(image):
        if image == 0:
            return []
        side = SIDES[image % len(SIDES)]
        tiny = [([1, 1, 0.5, 0.5], 0)] if image == 1 else []
        return [([2, 3, side, side / 2], 0), ([5, 1, side, side / 2], 0), ([0, 0, 99, 3], 1), *tiny]

    return make_silo(tmp_path / "silo", 19, boxes)


def test_a_report_in_json(run, silo, model):
    report = json.loads(run("--mindrecord_dir", silo, "--config", model, "--generations", "50", "--json"))
    assert report["boxes"] == 36 and report["too_small"] == 1 and report["input"] == [64, 64]
    # 100 x 50 fits 64 x 64 by 0.64: all boxes of width 0.64 * SIDES, half as high
    assert report["configured"]["best_possible_recall"] == pytest.approx(sum(0.64 * s / 2 * 4 > 13 for s in SIDES) / 6)
    assert report["fitted"]["best_possible_recall"] == 1
    assert report["fitted"]["fitness"] > 0.95
    widths = [width for level in report["anchors"] for width in level[::2]]
    assert [len(level) for level in report["anchors"]] == [6, 6, 6]
    assert all(min(abs(width / (0.64 * side) - 1) for width in widths) < 0.1 for side in SIDES)
    both = json.loads(run("--mindrecord_dir", silo, silo, "--config", model, "--generations", "0", "--json"))
    assert both["boxes"] == 72


def test_the_printed_block_is_a_configuration(run, silo, model, tmp_path):
    arguments = ("--generations", "20", "--seed", "2")
    printed = run("--mindrecord_dir", silo, "--config", model, *arguments)
    assert "configured" in printed and "fitted" in printed and "less than 2 pixels both ways: 1" in printed
    block = printed[printed.index("anchors:\n") :]
    fitted = tmp_path / "fitted.yaml"
    fitted.write_text(model.read_text() + block)
    again = run("--mindrecord_dir", silo, "--config", fitted, *arguments)
    assert yaml.safe_load(again[again.index("anchors:\n") :]) == yaml.safe_load(block)
    assert "need no change" in again and "need no change" not in printed


def test_mistakes_are_told(silo, model, tmp_path):
    few = make_silo(tmp_path / "few", 2, lambda image: [([0, 0, 9, 9], 0)] * image)
    other = tmp_path / "other.yaml"
    other.write_text("detector: faster_rcnn\n")
    for directory, config, expected in (
        (few, model, "--mindrecord_dir: found 1 boxes; expected at least 9"),
        (tmp_path, model, "has no manifest.json"),
        (silo, tmp_path / "none.yaml", "none.yaml"),
        (silo, other, "detector is faster_rcnn; expected yolo"),
    ):
        with pytest.raises(UserError, match=expected):
            tool.main(["--mindrecord_dir", str(directory), "--config", str(config)])
    done = subprocess.run(
        [sys.executable, TOOL, "--mindrecord_dir", silo, "--config", other],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
