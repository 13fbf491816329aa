"""The converter, as a user runs it: one silo, all silos of a split, a configuration file, mistakes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError

TOOL = Path(__file__).parents[2] / "tools" / "generate_mindrecord.py"
spec = importlib.util.spec_from_file_location("generate_mindrecord", TOOL)
generate_mindrecord = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate_mindrecord)


@pytest.fixture
def split(tmp_path):
    """Three silos with two images each; of the last one image is missing and one box is degenerate."""
    (tmp_path / "images").mkdir()
    (tmp_path / "split").mkdir()
    for silo in (0, 1, 10):
        names = [f"{silo}_{k}.jpg" for k in range(2)]
        content = {
            "images": [{"id": k, "file_name": name, "height": 8, "width": 9} for k, name in enumerate(names)],
            "annotations": [{"id": k, "image_id": k, "category_id": 1, "bbox": [0, 0, 2, 2]} for k in range(2)],
            "categories": [{"id": 1, "name": "a"}],
        }
        for name in names:
            Image.new("RGB", (9, 8)).save(tmp_path / "images" / name)
        if silo == 10:
            os.remove(tmp_path / "images" / names[0])
            content["annotations"].append({"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 2]})
        (tmp_path / "split" / f"train_{silo}.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "split"


def convert(capsys, *arguments):
    capsys.readouterr()
    assert generate_mindrecord.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["silos"]


def test_one_silo(capsys, split):
    (row,) = convert(
        capsys,
        *("--instance_set", split / "train_0.json"),
        *("--mindrecord_dir", split / "mindrecord_0"),
        *("--image_dir", split.parent / "images"),
    )
    assert (row["mindrecord_dir"], row["images"], row["boxes"]) == (str(split / "mindrecord_0"), 2, 2)
    manifest = read_manifest(split / "mindrecord_0")
    assert manifest.source_sha256 == read_coco(split / "train_0.json").sha256


def test_all_silos_of_a_split_and_a_restart(capsys, split):
    arguments = ("--split_dir", split, "--image_dir", split.parent / "images")
    rows = convert(capsys, *arguments)
    assert [os.path.basename(row["mindrecord_dir"]) for row in rows] == [f"mindrecord_{i}" for i in (0, 1, 10)]
    assert [row["images"] for row in rows] == [2, 2, 1]
    assert rows[2]["skipped_images"] == {"missing": 1}
    assert rows[2]["skipped_boxes"] == {"degenerate": 1}
    assert any("10_0.jpg" in line for line in rows[2]["names"])
    before = [os.stat(split / f"mindrecord_{i}").st_mtime_ns for i in (0, 1, 10)]
    os.remove(split / "mindrecord_1" / "manifest.json")
    for name in os.listdir(split / "mindrecord_1"):
        os.remove(split / "mindrecord_1" / name)
    assert [row["converted"] for row in convert(capsys, *arguments)] == [False, True, False]
    after = [os.stat(split / f"mindrecord_{i}").st_mtime_ns for i in (0, 1, 10)]
    assert [a == b for a, b in zip(before, after)] == [True, False, True]


def test_a_silo_of_another_split_is_not_taken_for_done(capsys, split):
    arguments = ("--split_dir", split, "--image_dir", split.parent / "images")
    convert(capsys, *arguments)
    with pytest.raises(UserError, match="with another --keep_empty"):
        convert(capsys, *arguments, "--keep_empty")
    (split / "train_0.json").write_text((split / "train_1.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match="mindrecord_0: was made from another train_0.json"):
        convert(capsys, *arguments)
    assert all(row["converted"] for row in convert(capsys, *arguments, "--overwrite"))


def test_configuration_file_and_flags_over_it(capsys, split):
    config = split.parent / "model.yaml"
    config.write_text(
        f"img_height: 64\nmindrecord_dir: {split}/mindrecord_0\ninstance_set: {split}/train_0.json\n"
        f"image_dir: {split.parent}/images\n"
    )
    assert convert(capsys, "--config", config)[0]["mindrecord_dir"] == str(split / "mindrecord_0")
    changed = convert(capsys, "--config", config, "--mindrecord_dir", split / "mindrecord_5", "--shards", "1")
    assert changed[0]["mindrecord_dir"] == str(split / "mindrecord_5")
    assert len(read_manifest(split / "mindrecord_5").shards) == 1
    assert len(convert(capsys, "--config", config, "--split_dir", split)) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--instance_set", "{s}/train_0.json", "--mindrecord_dir", "{s}/mindrecord_0"], "--image_dir: is missing"),
        (["--instance_set", "{s}/train_0.json", "--image_dir", "{i}"], "--mindrecord_dir: is missing"),
        (
            ["--mindrecord_dir", "{s}/out", "--instance_set", "{s}/train_0.json", "--image_dir", "{i}"],
            "'out'; expected",
        ),
        (
            ["--split_dir", "{s}", "--mindrecord_dir", "{s}/mindrecord_0", "--image_dir", "{i}"],
            "names all silos",
        ),
        (["--split_dir", "{i}", "--image_dir", "{i}"], r"holds no train_\{i\}.json"),
        (["--split_dir", "{s}/none", "--image_dir", "{i}"], "no such directory"),
        (["--split_dir", "{s}", "--image_dir", "{s}/none"], "--image_dir: .*no such directory"),
        (["--split_dir", "{s}", "--image_dir", "{i}", "--shards", "1001"], "--shards: found 1001"),
        (["--config", "{s}/none.yaml"], "none.yaml: cannot be read"),
    ],
)
def test_mistakes_are_named(capsys, split, arguments, expected):
    places = {"s": split, "i": split.parent / "images"}
    with pytest.raises(UserError, match=expected):
        convert(capsys, *(argument.format(**places) for argument in arguments))
    assert not any(name.startswith((".", "mindrecord")) for name in os.listdir(split))


@pytest.mark.parametrize(
    ("text", "expected"), [("a: [", "cannot be read"), ("[]", "found no keys"), ("image_dir: 5", "image_dir: found 5")]
)
def test_faults_of_the_configuration_file(capsys, tmp_path, text, expected):
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        convert(capsys, "--config", tmp_path / "model.yaml")
    assert "\n" not in str(caught.value)


def test_table_and_error_as_a_user_sees_them(split):
    command = [sys.executable, str(TOOL), "--split_dir", str(split), "--image_dir"]
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[1])}
    options = {"capture_output": True, "text": True, "env": environment, "timeout": 60}
    table = subprocess.run([*command, str(split.parent / "images")], check=False, **options)
    assert table.returncode == 0, table.stderr
    assert "mindrecord_10" in table.stdout
    assert "1 images left out, no such file, or not readable: 10_0.jpg" in table.stdout
    assert "1 boxes left out, width or height is not above 0: 7" in table.stdout
    wrong = subprocess.run([*command, str(split / "none"), "--overwrite"], check=False, **options)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert wrong.stderr.startswith("error: --image_dir: ")
