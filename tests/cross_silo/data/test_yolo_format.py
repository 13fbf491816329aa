"""YOLO labels to COCO: coordinates, ids, and that each fault is counted and named."""

import pytest
from PIL import Image

from cross_silo.data.yolo_format import REASONS, convert_yolo, read_class_names
from cross_silo.errors import UserError


@pytest.fixture
def layout(tmp_path):
    """Return a function that writes images and labels in coco128's layout and converts them."""
    image_dir, label_dir = tmp_path / "images" / "train2017", tmp_path / "labels" / "train2017"
    image_dir.mkdir(parents=True)
    label_dir.mkdir(parents=True)

    def convert(labels, size=(200, 100)):
        for name, text in labels.items():
            Image.new("RGB", size).save(image_dir / f"{name}.jpg")
            if text is not None:
                (label_dir / f"{name}.txt").write_text(text)
        return convert_yolo(str(image_dir), str(label_dir), ["cat", "dog"])

    convert.images, convert.labels = image_dir, label_dir
    return convert


def test_boxes_and_ids(layout):
    content, skipped, cut = layout({"b": "1 0.5 0.5 0.2 0.4\n0 0.25 0.75 0.5 0.5\n", "a": None, "c": ""})
    assert (skipped, cut) == ({}, 0)
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        (1, "a.jpg"),
        (2, "b.jpg"),
        (3, "c.jpg"),
    ]
    assert {(image["width"], image["height"]) for image in content["images"]} == {(200, 100)}
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [(a["id"], a["image_id"], a["category_id"], a["iscrowd"]) for a in content["annotations"]] == [
        (1, 2, 2, 0),
        (2, 2, 1, 0),
    ]
    assert [a["bbox"] for a in content["annotations"]] == [[80, 30, 40, 40], [0, 50, 100, 50]]
    assert [a["area"] for a in content["annotations"]] == [1600, 5000]


def test_boxes_across_the_border_are_cut_and_counted(layout):
    content, _, cut = layout({"a": "0 0.1 0.5 0.4 0.5\n0 0.1 0.5 0.200002 0.5"})
    assert cut == 1
    assert content["annotations"][0]["bbox"] == [0, 25, 60, 50]
    assert content["annotations"][1]["bbox"] == pytest.approx([0, 25, 40, 50], abs=1e-3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.1", "fields"),
        ("0 0.5 0.5 0.1 0.1 0.9", "fields"),
        ("cat 0.5 0.5 0.1 0.1", "fields"),
        ("2 0.5 0.5 0.1 0.1", "class"),
        ("-1 0.5 0.5 0.1 0.1", "class"),
        ("0.5 0.5 0.5 0.1 0.1", "class"),
        ("0 nan 0.5 0.1 0.1", "not_finite"),
        ("0 0.5 0.5 0 0.1", "degenerate"),
        ("0 0.5 0.5 0.1 -0.1", "degenerate"),
        ("0 1.5 0.5 0.1 0.1", "outside"),
        ("0 0.5 -0.05 0.1 0.1", "outside"),
        ("1 0.5 0.5 0.1 0.1", "repeated"),
    ],
)
def test_bad_lines_are_counted_and_named(layout, line, reason):
    content, skipped, _ = layout({"a": f"1 0.5 0.5 0.1 0.1\n\n{line}\n0 0.2 0.2 0.1 0.1"})
    assert skipped == {reason: ["a.txt:3"]}
    assert reason in REASONS
    assert len(content["annotations"]) == 2


def test_bad_images_and_lone_labels_are_named(layout):
    (layout.images / "text.jpg").write_text("no image")
    (layout.images / "deep").mkdir()
    Image.new("RGB", (4, 4)).save(layout.images / "deep" / "d.png")
    (layout.labels / "lone.txt").write_text("0 0.5 0.5 0.1 0.1")
    content, skipped, _ = layout({"a": None})
    (layout.images / "cut.jpg").write_bytes((layout.images / "a.jpg").read_bytes()[:-2])
    assert skipped == {"no_image": ["lone.txt"], "header": ["text.jpg"]}
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "deep/d.png"]
    assert layout({})[1]["end"] == ["cut.jpg"]


def test_missing_directories_are_named(layout, tmp_path):
    with pytest.raises(UserError, match="holds no image"):
        layout({})
    with pytest.raises(UserError, match="none: no such directory"):
        convert_yolo(str(tmp_path / "none"), str(tmp_path), ["a"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.txt", "cat\n dog \n\n", ["cat", "dog"]),
        ("c.yaml", "names: [cat, dog]\nnc: 2", ["cat", "dog"]),
        ("c.yml", "names:\n  0: cat\n  1: dog", ["cat", "dog"]),
    ],
)
def test_class_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_class_names(str(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.txt", "", "no class names"),
        ("c.txt", "a\na", "twice"),
        ("c.yaml", "nc: 3", "no class names"),
        ("c.yaml", "- a", "cannot be read"),
        ("c.yaml", "names: {1: a}", "found keys"),
        ("c.yaml", "names: [", "cannot be read"),
    ],
)
def test_faults_of_class_names(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=expected) as caught:
        read_class_names(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_class_file_is_missing(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_class_names(str(tmp_path / "none.txt"))
