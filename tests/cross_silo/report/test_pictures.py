"""Which images are drawn, and which boxes of theirs are dashed."""

import json

from PIL import Image

from cross_silo.data.coco import read_coco
from cross_silo.report import pictures
from tests.support.colour_squares import write_set


def test_detections_beside_the_truth(tmp_path, monkeypatch):
    path = write_set(tmp_path, num_images=10)
    content = json.loads(path.read_text())
    content["annotations"][2]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    dataset = read_coco(path)
    red, green, blue = (entry["bbox"] for entry in dataset.annotations[:3])
    detections = [
        {"image_id": 1, "category_id": 3, "bbox": red, "score": 0.9},
        {"image_id": 1, "category_id": 11, "bbox": green, "score": 0.8},
        {"image_id": 1, "category_id": 11, "bbox": blue, "score": 0.7},
        {"image_id": 1, "category_id": 3, "bbox": [0, 40, 8, 8], "score": 0.6},
        {"image_id": 1, "category_id": 3, "bbox": green, "score": 0.4},
    ]
    drawn = []
    inner = pictures.draw
    monkeypatch.setattr(pictures, "draw", lambda pixels, boxes: drawn.append(boxes) or inner(pixels, boxes))
    files = pictures.draw_pictures(dataset, detections, tmp_path / "images", tmp_path / "out", 3, score=0.5)
    assert [file.name for file in files] == ["1_1.png", "4_4.png", "7_7.png"]
    assert [(box.text, box.dashed) for box in drawn[0]] == [("red", False), ("green", True), ("blue (crowd)", False)]
    assert [(box.text, box.dashed) for box in drawn[1]] == [
        ("red 0.90", False),
        ("blue 0.80", True),
        ("blue 0.70", False),  # in the crowd
        ("red 0.60", True),
    ]
    assert [box.dashed for box in drawn[2]] == [True] * 3 and drawn[3] == []
    with Image.open(files[0]) as page:
        assert page.width > 2 * 640 and page.height > 480


def test_no_more_pictures_than_images(tmp_path):
    dataset = read_coco(write_set(tmp_path, num_images=2))
    files = pictures.draw_pictures(dataset, [], tmp_path / "images", tmp_path / "a" / "b", 8, score=0.5)
    assert [file.name for file in files] == ["1_1.png", "2_2.png"] and all(file.exists() for file in files)
