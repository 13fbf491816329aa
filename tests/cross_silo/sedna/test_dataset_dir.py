"""A Dataset's directory becomes mindrecord_{i} on first use, is found again, and is made anew when it changes."""

import json
import shutil

import pytest

from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from cross_silo.sedna.dataset_dir import main, prepare
from tests.support.colour_squares import write_set
from tests.support.yolo_silo import write_coco128


def test_converted_on_first_use_and_again_when_it_changes(tmp_path):
    source, target = tmp_path / "COCO", tmp_path / "run" / "mindrecord_0"
    write_coco128(source, images=3)
    assert prepare(str(source), str(target), "dir") == f"{target}: 3 images, 3 boxes"
    manifest = read_manifest(target)
    assert (manifest.num_images, manifest.num_classes, manifest.categories[0].name) == (3, 80, "person")
    assert prepare(str(source), str(target), "dir") == f"{target}: 3 images, converted before"
    shutil.copy(source / "coco128/images/train2017/0.jpg", source / "coco128/images/train2017/9.jpg")
    shutil.copy(source / "coco128/labels/train2017/0.txt", source / "coco128/labels/train2017/9.txt")
    assert prepare(str(source), str(target), "dir") == f"{target}: 4 images, 4 boxes"


def test_mindrecord_is_used_where_it_is(tmp_path):
    write_set(tmp_path / "COCO")
    shards = tmp_path / "mindrecord_7"
    prepare(str(tmp_path / "COCO"), str(shards))
    target = tmp_path / "run" / "mindrecord_0"
    for _ in range(2):
        assert prepare(str(shards), str(target), "mindrecord") == f"{target}: 5 images in {shards}"
    assert read_manifest(target) == read_manifest(shards)
    shutil.copytree(shards, tmp_path / "mindrecord_8")
    prepare(str(tmp_path / "mindrecord_8"), str(target))
    assert target.resolve() == tmp_path / "mindrecord_8"
    with pytest.raises(UserError, match="is there already and is not"):
        prepare(str(shards), str(tmp_path / "mindrecord_8"))


@pytest.mark.parametrize("format", ["txt", "csv"])
def test_lists_without_boxes_are_refused(tmp_path, format):
    with pytest.raises(UserError, match=rf"dataset format\({format}\) has no boxes .*; expected dir"):
        prepare(str(tmp_path), str(tmp_path / "mindrecord_0"), format)


def test_a_directory_that_is_not_of_its_format_is_refused(tmp_path):
    write_set(tmp_path)
    with pytest.raises(UserError, match=r"has no manifest.json, but its format is mindrecord"):
        prepare(str(tmp_path), str(tmp_path / "mindrecord_0"), "mindrecord")


def test_held_out_images_as_a_coco_file(tmp_path, capsys):
    write_coco128(tmp_path / "COCO", images=2)
    (tmp_path / "names.txt").write_text("square\n")
    target = tmp_path / "run" / "evaluation.json"
    arguments = ["--dataset", str(tmp_path / "COCO"), "--annotations", str(target)]
    assert main([*arguments, "--classes", str(tmp_path / "names.txt")]) == 0
    assert capsys.readouterr().out == f"{target}: 2 images\n"
    assert json.loads(target.read_text())["categories"] == [{"id": 1, "name": "square"}]
