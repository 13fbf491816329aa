"""The command that divides a COCO file, as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cross_silo.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "split_coco.py"
spec = importlib.util.spec_from_file_location("split_coco", TOOL)
split_coco = importlib.util.module_from_spec(spec)
spec.loader.exec_module(split_coco)


@pytest.fixture
def annotations(tmp_path):
    """40 images: one box of class 1 in each, one of class 2 in each fourth."""
    boxes = [(image, 1) for image in range(40)] + [(image, 2) for image in range(0, 40, 4)]
    content = {
        "licenses": [{"id": 1}],
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": 9, "width": 9} for i in range(40)],
        "annotations": [
            {"id": k, "image_id": image, "category_id": category, "bbox": [0, 0, 2, 2], "note": "kept"}
            for k, (image, category) in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "common"}, {"id": 2, "name": "rare"}],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def split(capsys, annotations, out, *arguments):
    capsys.readouterr()
    status = split_coco.main(["--annotations", annotations, "--out", str(out), "--json", *arguments])
    assert status == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--num_silos", "3"],
        ["--num_silos", "3", "--scheme", "dirichlet", "--alpha", "0.1"],
        ["--num_silos", "4", "--scheme", "dirichlet", "--label_by", "dominant", "--min_images", "5"],
        ["--num_silos", "3", "--scheme", "quantity", "--alpha", "0.2"],
    ],
)
def test_every_image_is_in_one_silo_with_all_that_belongs_to_it(capsys, tmp_path, annotations, arguments):
    summary, _ = split(capsys, annotations, tmp_path / "out", *arguments)
    source = json.loads(Path(annotations).read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "out" / "split.json").read_text(encoding="utf-8")) == summary
    images, boxes = [], []
    for index, row in enumerate(summary["silos"]):
        silo = json.loads((tmp_path / "out" / f"train_{index}.json").read_text(encoding="utf-8"))
        assert silo["categories"] == source["categories"]
        assert silo["licenses"] == source["licenses"]
        assert (row["file"], row["images"], row["boxes"]) == (
            f"train_{index}.json",
            len(silo["images"]),
            len(silo["annotations"]),
        )
        assert row["images"] >= summary["min_images"] if summary["min_images"] else row["images"] > 0
        ids = {image["id"] for image in silo["images"]}
        assert {a["image_id"] for a in silo["annotations"]} == ids
        common, rare = row["classes"]["common"], row["classes"]["rare"]
        assert common == {"boxes": len(ids), "images": len(ids)}
        assert rare["boxes"] == sum(a["category_id"] == 2 for a in silo["annotations"])
        images += silo["images"]
        boxes += silo["annotations"]
    assert sorted(images, key=lambda image: image["id"]) == source["images"]
    assert sorted(boxes, key=lambda box: box["id"]) == source["annotations"]


def test_lists_decide(capsys, tmp_path, annotations):
    for silo in range(2):
        names = [f"{image}.jpg" for image in range(40) if image % 2 == silo]
        (tmp_path / f"{silo}.txt").write_text("\n".join(names))
    lists = [str(tmp_path / f"{silo}.txt") for silo in range(2)]
    summary, _ = split(capsys, annotations, tmp_path / "out", "--scheme", "files", "--file_lists", *lists)
    assert [row["classes"]["rare"]["boxes"] for row in summary["silos"]] == [10, 0]


def test_a_dominating_label_is_warned_of(capsys, tmp_path, annotations):
    arguments = ["--num_silos", "2", "--scheme", "dirichlet", "--overwrite", "--label_by"]
    summary, text = split(capsys, annotations, tmp_path / "out", *arguments, "dominant")
    assert summary["warnings"] == []
    source = json.loads(Path(annotations).read_text(encoding="utf-8"))
    source["annotations"] += [{**a, "id": a["id"] + 100} for a in source["annotations"] if a["category_id"] == 1]
    Path(annotations).write_text(json.dumps(source), encoding="utf-8")
    summary, text = split(capsys, annotations, tmp_path / "out", *arguments, "dominant")
    assert "one label covers 100% of the images" in summary["warnings"][0]
    assert text == f"warning: {summary['warnings'][0]}\n"
    assert split(capsys, annotations, tmp_path / "out", *arguments, "rarest")[0]["warnings"] == []


def test_a_split_is_not_replaced_unasked_and_leaves_no_file_of_an_earlier_one(capsys, tmp_path, annotations):
    out = tmp_path / "out"
    split(capsys, annotations, out, "--num_silos", "4")
    with pytest.raises(UserError, match="--overwrite"):
        split(capsys, annotations, out, "--num_silos", "2")
    (out / "mindrecord_3").mkdir()
    summary, _ = split(capsys, annotations, out, "--num_silos", "2", "--overwrite")
    assert sorted(os.listdir(out)) == ["mindrecord_3", "split.json", "train_0.json", "train_1.json"]
    assert "earlier split" in summary["warnings"][0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--num_silos: found None"),
        (["--num_silos", "0"], "--num_silos: found 0"),
        (["--num_silos", "41"], "has 40 images; expected at least 41"),
        (["--num_silos", "4", "--scheme", "quantity", "--min_images", "11"], "expected at least 44"),
        (["--num_silos", "2", "--alpha", "1"], "--alpha: is not used by --scheme iid"),
        (["--num_silos", "2", "--scheme", "quantity", "--label_by", "rarest"], "--label_by: is not used"),
        (["--num_silos", "2", "--scheme", "dirichlet", "--alpha", "0"], "--alpha: found 0.0"),
        (["--num_silos", "2", "--scheme", "quantity", "--min_images", "0"], "--min_images: found 0"),
        (["--num_silos", "2", "--seed", "-1"], "--seed: found -1"),
        (["--scheme", "files"], "expected --file_lists"),
        (["--scheme", "files", "--num_silos", "3", "--file_lists", "a", "b"], "--num_silos: found 3; expected 2"),
    ],
)
def test_mistakes_are_named(capsys, tmp_path, annotations, arguments, expected):
    with pytest.raises(UserError, match=expected):
        split(capsys, annotations, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_table_and_error_as_a_user_sees_them(tmp_path, annotations):
    command = [sys.executable, str(TOOL), "--annotations", annotations, "--out", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    options = {"capture_output": True, "text": True, "env": environment, "timeout": 60}
    table = subprocess.run([*command, "--num_silos", "2"], check=False, **options)
    assert table.returncode == 0, table.stderr
    assert "train_1.json" in table.stdout
    assert "rare" in table.stdout
    again = subprocess.run([*command, "--num_silos", "2"], check=False, **options)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("error: --out: ")
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize(("silos", "classes"), [(30, 2), (2, 30), (30, 30)])
def test_large_tables_stay_readable(silos, classes):
    from rich.console import Console

    cells = {f"class{c}": {"boxes": 7, "images": 3} for c in range(classes)}
    rows = [{"file": f"train_{s}.json", "images": 3, "boxes": 7, "classes": cells} for s in range(silos)]
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    split_coco.show({"scheme": "iid", "seed": 0, "silos": rows}, console)
    text = console.export_text()
    assert "7 in 3" in text
    assert ("more columns stand in split.json" in text) == (silos == classes == 30)
    assert max(map(len, text.splitlines())) < 200
