"""What a Dataset's directory may hold, which part of it is trained on, and what is said of anything else."""

import json
import shutil

import pytest

from cross_silo.errors import UserError
from cross_silo.sedna.coco_classes import COCO_CLASSES
from cross_silo.sedna.layouts import VAL, Layout, class_names, coco_content, find_layout
from tests.support.colour_squares import write_set
from tests.support.yolo_silo import write_coco128


def test_coco128s_layout_one_directory_below(tmp_path):
    write_coco128(tmp_path / "COCO", images=3)
    layout = find_layout(str(tmp_path / "COCO"))
    base = tmp_path / "COCO" / "coco128"
    assert layout == Layout(images=str(base / "images/train2017"), labels=str(base / "labels/train2017"))
    content = coco_content(str(tmp_path / "COCO"), layout)
    assert [image["file_name"] for image in content["images"]] == [
        f"coco128/images/train2017/{n}.jpg" for n in range(3)
    ]
    assert [category["name"] for category in content["categories"]] == list(COCO_CLASSES)
    assert {annotation["category_id"] for annotation in content["annotations"]} == {1}


def test_names_of_classes_stand_beside_the_labels_or_in_the_job(tmp_path):
    write_coco128(tmp_path, images=1)
    layout = find_layout(str(tmp_path))
    (tmp_path / "coco128" / "data.yaml").write_text("names: [cat, dog]\n")
    assert class_names(layout) == ("cat", "dog")
    given = coco_content(str(tmp_path), layout, ("red", "green", "blue"))
    assert [category["name"] for category in given["categories"]] == ["red", "green", "blue"]


def test_the_training_part_of_several_and_the_held_out_one(tmp_path):
    write_coco128(tmp_path, images=1)
    for kind in ("images", "labels"):
        shutil.copytree(tmp_path / f"coco128/{kind}/train2017", tmp_path / f"coco128/{kind}/val2017")
    assert find_layout(str(tmp_path)).images.endswith("train2017")
    assert find_layout(str(tmp_path), VAL).images.endswith("val2017")
    (tmp_path / "coco128/images/train2017").rename(tmp_path / "coco128/images/first")
    with pytest.raises(UserError, match=r"holds first, val2017; expected images, or one directory train\*"):
        find_layout(str(tmp_path))


def test_a_coco_json_with_its_images(tmp_path):
    write_set(tmp_path)
    layout = find_layout(str(tmp_path))
    assert layout == Layout(coco=str(tmp_path / "annotations.json"), images=str(tmp_path / "images"))
    content = coco_content(str(tmp_path), layout)
    assert content["images"][0]["file_name"] == "images/1.png"
    assert len(content["annotations"]) == 15


def test_cocos_own_directories(tmp_path):
    write_set(tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations.json").rename(tmp_path / "annotations" / "instances_train2017.json")
    (tmp_path / "images").rename(tmp_path / "train2017")
    (tmp_path / "annotations" / "captions.json").write_text("{}")
    layout = find_layout(str(tmp_path))
    assert layout.images == str(tmp_path / "train2017")
    shutil.copy(layout.coco, tmp_path / "annotations" / "instances_val2017.json")
    assert find_layout(str(tmp_path)) == layout
    shutil.copy(layout.coco, tmp_path / "annotations" / "more_train.json")
    with pytest.raises(UserError, match="holds several COCO files .* expected one, or one with 'train' in its name"):
        find_layout(str(tmp_path))


def test_images_that_are_nowhere_are_named_with_the_places(tmp_path):
    write_set(tmp_path)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(UserError, match=r"its image 1.png was looked for in .*/images"):
        find_layout(str(tmp_path))


def test_what_holds_nothing_known_is_refused_naming_what_was_looked_for(tmp_path):
    (tmp_path / "test.txt").write_text("")
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError) as error:
        find_layout(str(tmp_path))
    assert "manifest.json (MindRecord shards); *.json or annotations/*.json (COCO); images/ beside labels/" in str(
        error.value
    )
    with pytest.raises(UserError, match="not a directory"):
        find_layout(str(tmp_path / "test.txt"))
    with pytest.raises(UserError, match="no such directory"):
        find_layout(str(tmp_path / "none"))


def test_there_are_80_classes():
    assert len(set(COCO_CLASSES)) == 80
    assert (COCO_CLASSES[0], COCO_CLASSES[11], COCO_CLASSES[79]) == ("person", "stop sign", "toothbrush")
