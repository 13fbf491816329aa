"""Reading COCO files: what is read, and that each fault is named with its file and id."""

import copy
import hashlib
import json
import os

import pytest

from cross_silo.data.coco import read_coco, write_json, write_subset
from cross_silo.errors import UserError

GOOD = {
    "info": {"year": 2020},
    "images": [
        {"id": 4, "file_name": "a.jpg", "height": 20, "width": 30},
        {"id": 2, "file_name": "b.jpg", "height": 21, "width": 31},
    ],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 9, "bbox": [1, 2, 3.5, 4], "iscrowd": 0, "segmentation": [[1, 2]]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 3, "image_id": 77, "category_id": 3, "bbox": [0, 0, 1, 1]},
    ],
    "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog", "supercategory": "animal"}],
}


def save(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_reads_a_good_file(tmp_path):
    path = save(tmp_path, GOOD)
    dataset = read_coco(path)
    assert dataset.path == str(path)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [(c.id, c.name, c.index) for c in dataset.categories] == [(3, "dog", 0), (9, "cat", 1)]
    assert dataset.class_index == {3: 0, 9: 1}
    grouped = dataset.annotations_by_image()
    assert {image: [a["id"] for a in group] for image, group in grouped.items()} == {4: [], 2: [1, 2]}


def test_a_subset_carries_everything_over(tmp_path):
    dataset = read_coco(save(tmp_path, GOOD))
    path = str(tmp_path / "part.json")
    write_subset(path, dataset, dataset.images[1:], dataset.annotations[:2])
    part = json.loads((tmp_path / "part.json").read_text(encoding="utf-8"))
    assert part == {**GOOD, "images": GOOD["images"][1:], "annotations": GOOD["annotations"][:2]}
    assert read_coco(path).categories == dataset.categories


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(str(path), {"a": 1})
    with pytest.raises(TypeError):
        write_json(str(path), {"a": [2] * 1000, "b": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}


@pytest.mark.parametrize(
    ("place", "change", "expected"),
    [
        (("images",), None, "no list 'images'"),
        (("categories",), [], "no categories"),
        (("categories", 0, "name"), 5, "category 9: has no name"),
        (("categories", 0, "name"), "dog", "'dog' stands there twice"),
        (("categories", 0, "id"), 3, "categories: 3 stands there twice"),
        (("images", 0, "id"), "4", r"images\[0\]"),
        (("images", 0, "id"), 2, "images: 2 stands there twice"),
        (("images", 0, "id"), 2**63, r"images\[0\]"),
        (("images", 1, "width"), 0, "image 2: width: found 0"),
        (("images", 1, "height"), None, "image 2: height: found None"),
        (("images", 1, "file_name"), "", "image 2: has no file_name"),
        (("annotations", 1), 5, r"annotations\[1\]: found 5"),
        (("annotations", 1, "id"), 1, "annotations: 1 stands there twice"),
        (("annotations", 1, "bbox"), [1, 2, 3], "annotation 2: bbox"),
        (("annotations", 1, "bbox"), [1, 2, 3, "4"], "annotation 2: bbox"),
        (("annotations", 1, "bbox"), None, "annotation 2: bbox: found None"),
        (("annotations", 1, "iscrowd"), 2, "annotation 2: iscrowd: found 2"),
        (("annotations", 1, "image_id"), 1.5, "annotation 2: image_id: found 1.5"),
        (("annotations", 1, "category_id"), True, "annotation 2: category_id: found True"),
    ],
)
def test_faults_are_named(tmp_path, place, change, expected):
    content = copy.deepcopy(GOOD)
    target = content
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = change
    with pytest.raises(UserError, match=expected) as caught:
        read_coco(save(tmp_path, content))
    assert "some.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [("{", "is not json"), ("[]", "found a json list"), ("", "is not json")])
def test_other_files_are_refused(tmp_path, text, expected):
    with pytest.raises(UserError, match=expected):
        read_coco(save(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.json: cannot be read"):
        read_coco(os.path.join(tmp_path, "nothing.json"))
