"""Records: untouched bytes, boxes against plain numpy, and what is left out is counted by its reason."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from cross_silo.data import record
from cross_silo.data.record import Tally, clean_boxes, make_record


def boxes_of(*annotations, height=50, width=100):
    tally = Tally(3)
    entries = [{"id": k, "category_id": 7, **annotation} for k, annotation in enumerate(annotations)]
    return clean_boxes(entries, {7: 0, 9: 2}, height, width, tally), tally


def test_good_boxes_keep_their_fractions_and_order():
    rows, tally = boxes_of(
        {"bbox": [1.25, 2.5, 10.1, 20.2], "category_id": 9},
        {"bbox": [0, 0, 100, 50], "iscrowd": 1},
    )
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, [[1.25, 2.5, 11.35, 22.7, 2, 0], [0, 0, 100, 50, 0, 1]], rtol=1e-6)
    assert (tally.clipped_boxes, tally.skipped_boxes) == (0, {})


@pytest.mark.parametrize(
    ("box", "expected", "clipped"),
    [
        ([-5, -4, 20, 10], [0, 0, 15, 6], 1),
        ([90, 40, 20, 20], [90, 40, 100, 50], 1),
        ([-1, -1, 200, 200], [0, 0, 100, 50], 1),
        ([90, 40, 10.005, 10], [90, 40, 100, 50], 0),
    ],
)
def test_boxes_across_the_border_are_cut(box, expected, clipped):
    rows, tally = boxes_of({"bbox": box})
    np.testing.assert_allclose(rows[:, :4], [expected])
    assert tally.clipped_boxes == clipped


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({"bbox": [1, 1, 0, 5]}, "degenerate"),
        ({"bbox": [1, 1, 5, -5]}, "degenerate"),
        ({"bbox": [100, 1, 5, 5]}, "outside"),
        ({"bbox": [1, -9, 5, 9]}, "outside"),
        ({"bbox": [1, float("nan"), 5, 5]}, "not_finite"),
        ({"bbox": [1, 1, float("inf"), 5]}, "not_finite"),
        ({"bbox": [1, 1, 5, 5], "category_id": 8}, "unknown_category"),
    ],
)
def test_unusable_boxes_are_counted_by_reason(annotation, reason):
    rows, tally = boxes_of({"bbox": [1, 1, 2, 2]}, annotation)
    assert len(rows) == 1
    assert tally.skipped_boxes == {reason: [1]}
    assert reason in record.BOX_REASONS


def test_no_boxes():
    assert boxes_of()[0].shape == (0, 6)


def write_image(tmp_path, name="a.jpg", size=(12, 9)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 99, 199)).save(buffer, "PNG" if name.endswith("png") else "JPEG")
    (tmp_path / name).write_bytes(buffer.getvalue())
    return buffer.getvalue()


def make(tmp_path, annotations=({"id": 5, "category_id": 7, "bbox": [1, 1, 4, 4]},), **changes):
    image = {"id": 3, "file_name": "a.jpg", "height": 9, "width": 12}
    options = {"keep_empty": False, "verify": False}
    options.update({key: changes.pop(key) for key in list(changes) if key in options})
    tally = Tally(3)
    return make_record({**image, **changes}, annotations, {7: 0}, str(tmp_path), tally, **options), tally


def test_a_record_holds_the_bytes_as_they_are(tmp_path):
    data = write_image(tmp_path)
    result, tally = make(tmp_path)
    assert set(result) == set(record.SCHEMA)
    assert result["image"] == data
    assert (result["image_id"], result["file"], result["height"], result["width"]) == (3, "a.jpg", 9, 12)
    assert (tally.images, tally.boxes_by_class, tally.most_boxes, tally.skipped_images) == (1, [1, 0, 0], 1, {})


def test_crowd_regions_are_kept_and_counted_apart(tmp_path):
    write_image(tmp_path)
    crowd = {"id": 5, "category_id": 7, "bbox": [1, 1, 4, 4], "iscrowd": 1}
    result, tally = make(tmp_path, [crowd])
    assert result["annotation"][0, 5] == 1
    assert (tally.crowd, tally.boxes_by_class, tally.most_boxes) == (1, [0, 0, 0], 1)


def test_unusable_images_are_counted_by_reason(tmp_path, monkeypatch):
    data = write_image(tmp_path)
    (tmp_path / "cut.jpg").write_bytes(data[:-2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    cases = {
        "missing": {"file_name": "none.jpg"},
        "end": {"file_name": "cut.jpg"},
        "header": {"file_name": "text.jpg"},
        "size": {"height": 10},
    }
    for reason, changes in cases.items():
        result, tally = make(tmp_path, **changes)
        assert result is None
        assert tally.skipped_images == {reason: [changes.get("file_name", "a.jpg")]}
        assert reason in record.IMAGE_REASONS
    assert make(tmp_path, file_name="folder.jpg")[1].skipped_images == {"missing": ["folder.jpg"]}
    monkeypatch.setattr(record, "LARGEST_FILE", len(data) - 1)
    assert make(tmp_path)[1].skipped_images == {"large": ["a.jpg"]}


def test_images_without_boxes_are_kept_on_request_alone(tmp_path):
    write_image(tmp_path)
    assert make(tmp_path, [])[1].skipped_images == {"empty": ["a.jpg"]}
    result, tally = make(tmp_path, [], keep_empty=True)
    assert result["annotation"].shape == (0, 6)
    assert tally.images == 1


def test_damaged_pixels_are_found_by_verify_alone(tmp_path):
    data = bytearray(write_image(tmp_path, "a.png"))
    place = data.index(b"IDAT") + 4
    data[place : place + 6] = bytes(6)
    (tmp_path / "a.png").write_bytes(data)
    assert make(tmp_path, file_name="a.png")[0] is not None
    assert make(tmp_path, file_name="a.png", verify=True)[1].skipped_images == {"pixels": ["a.png"]}


def test_tallies_add_up():
    first = Tally(2, 3, [4, 5], 1, 9, 2, {"missing": ["a"]}, {"outside": [1]})
    first.add(Tally(2, 1, [1, 0], 2, 4, 1, {"missing": ["b"], "end": ["c"]}, {"outside": [2]}))
    assert first == Tally(2, 4, [5, 5], 3, 9, 3, {"missing": ["a", "b"], "end": ["c"]}, {"outside": [1, 2]})
    assert json.loads(json.dumps(first.__dict__)) == first.__dict__
