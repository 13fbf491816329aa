"""Samples: what a record becomes, exact scaling, rows in any order, and that keeping them changes nothing."""

import io

import numpy as np
import pytest
from PIL import Image

from cross_silo.data import samples as module
from cross_silo.data.manifest import read_manifest
from cross_silo.data.mindrecord_writer import write_shards
from cross_silo.data.samples import SampleReader, to_sample
from cross_silo.data.transforms import Letterbox, ResizeAndPad
from cross_silo.errors import UserError


def make_record(image_id, annotation, data=None, size=(6, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    encoded = buffer.getvalue() if data is None else data
    return {
        "image": np.array([encoded], f"S{len(encoded)}"),
        "annotation": np.array(annotation, np.float32),
        "image_id": np.array(image_id, np.int64),
        "file": np.array("a.png"),
    }


def test_a_record_becomes_a_sample():
    image_id, sample = to_sample(make_record(9, [[1, 1, 3, 3, 2, 0], [0, 0, 6, 4, 1, 1]]))
    assert (image_id, sample.image.shape, sample.scale) == (9, (4, 6, 3), (1.0, 1.0))
    np.testing.assert_array_equal(sample.boxes, [[1, 1, 3, 3], [0, 0, 6, 4]])
    assert sample.labels.tolist() == [2, 1]
    assert sample.crowd.tolist() == [False, True]


def test_a_record_is_scaled_with_its_boxes():
    record = make_record(9, [[10, 10, 30, 35, 2, 0]], size=(61, 39))
    _, sample = to_sample(record, Letterbox(20, 20))
    assert sample.image.shape == (13, 20, 3)
    assert sample.scale == pytest.approx((20 / 61, 13 / 39))
    np.testing.assert_allclose(sample.boxes, [[200 / 61, 130 / 39, 600 / 61, 35 / 3]], rtol=1e-6)


def test_a_record_without_boxes_comes_as_a_bare_zero():
    assert to_sample(make_record(9, 0.0), Letterbox(3, 3))[1].boxes.shape == (0, 4)


@pytest.mark.parametrize("resizing", [None, Letterbox(2, 2)])
def test_a_damaged_image_is_named(resizing):
    with pytest.raises(UserError, match=r"a\.png: image 9: .*--verify"):
        to_sample(make_record(9, 0.0, b"\x89PNG\r\n\x1a\nnothing"), resizing)


@pytest.fixture
def open_reader(tmp_path, make_silo):
    """Return a function that opens a reader over a silo of nine images, 20 x 30 pixels."""
    directory = str(tmp_path / "mindrecord_0")
    write_shards(*make_silo(9), directory, shards=3)
    return lambda cache_bytes, resizing=None: SampleReader(directory, read_manifest(directory), resizing, cache_bytes)


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of the images that are decoded from now on."""
    ids = []

    def noted(record, resizing):
        ids.append(int(record["image_id"]) - 10**10)
        return to_sample(record, resizing)

    monkeypatch.setattr(module, "to_sample", noted)
    return ids


ROWS = [8, 0, 4, 0, 0, 8, 1]


@pytest.mark.parametrize("cache_bytes", [0, 2 * 1800 + 1, 10**6])
def test_rows_come_in_the_order_asked_for_and_alike_however_many_are_kept(open_reader, decoded, cache_bytes):
    expected = dict(zip(range(9), open_reader(0).read(range(9))))
    decoded.clear()
    reader = open_reader(cache_bytes)
    for rows in (ROWS, ROWS[::-1], [], range(9)):
        found = list(reader.read(rows))
        assert [image_id - 10**10 for image_id, _ in found] == list(rows)
        for row, (_, sample) in zip(rows, found):
            for field in ("image", "boxes", "labels", "crowd"):
                np.testing.assert_array_equal(getattr(sample, field), getattr(expected[row][1], field))
    assert decoded.count(8) == (5 if cache_bytes == 0 else 1)
    assert decoded.count(1) == (1 if cache_bytes > 10**5 else 3)


def test_what_is_kept_is_bounded_and_of_the_scaled_size(open_reader, decoded):
    reader = open_reader(10 * 15 * 3 * 4, ResizeAndPad(10, 100))
    for _ in range(3):
        assert {sample.image.shape for _, sample in reader.read(range(9))} == {(10, 15, 3)}
    assert [decoded.count(row) for row in range(9)] == [1] * 4 + [3] * 5


def test_a_transform_that_writes_into_boxes_spoils_nothing(open_reader):
    reader = open_reader(10**6)
    for _ in range(2):
        _, sample = next(reader.read([2]))
        assert sample.boxes[0].tolist() == [0.25, 2.0, 4.75, 8.0]
        sample.boxes[:] = 77
        sample.labels[:] = 77
        with pytest.raises(ValueError, match="read-only"):
            sample.image[:] = 0
