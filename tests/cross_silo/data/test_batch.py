"""Batches: padding, validity, which boxes stay where not all fit, and bad records."""

import io

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.batch import augmented, make_batch
from cross_silo.data.transforms import HorizontalFlip, Sample
from cross_silo.errors import UserError


def make_sample(boxes, crowd=None, value=0):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    return Sample(np.full((4, 6, 3), value, np.uint8), boxes, np.arange(len(boxes), dtype=np.int32) + 1, crowd)


def test_padding_and_validity():
    samples = [(7, make_sample([[0, 0, 1, 1], [1, 1, 3, 3]], [False, True], 5)), (2**40, make_sample([]))]
    batch, overflow = make_batch(samples, 3)
    assert overflow == 0
    assert (batch.image.shape, batch.image.dtype) == ((2, 4, 6, 3), np.uint8)
    assert (batch.image[0] == 5).all()
    np.testing.assert_array_equal(batch.boxes[0], [[0, 0, 1, 1], [1, 1, 3, 3], [0, 0, 0, 0]])
    assert batch.labels.tolist() == [[1, 2, 0], [0, 0, 0]]
    assert batch.valid.tolist() == [[1, -1, 0], [0, 0, 0]]
    assert batch.image_ids.tolist() == [7, 2**40]
    assert [a.dtype for a in (batch.boxes, batch.labels, batch.valid, batch.image_ids)] == [
        np.float32,
        np.int32,
        np.int32,
        np.int64,
    ]


def test_objects_before_crowds_and_large_before_small():
    sample = make_sample([[0, 0, 4, 4], [0, 0, 1, 1], [0, 0, 3, 3], [0, 0, 2, 2]], [True, False, False, False])
    batch, overflow = make_batch([(1, sample)], 2)
    assert overflow == 2
    assert batch.labels.tolist() == [[3, 4]]
    assert batch.valid.tolist() == [[1, 1]]
    assert make_batch([(1, sample)], 4)[0].labels.tolist() == [[1, 2, 3, 4]]


def make_record(image_id, annotation, data=None):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, "PNG")
    encoded = buffer.getvalue() if data is None else data
    return {
        "image": np.array([encoded], f"S{len(encoded)}"),
        "annotation": np.array(annotation, np.float32),
        "image_id": np.array(image_id, np.int64),
        "file": np.array("a.png"),
    }


def test_a_record_becomes_a_sample():
    image_id, sample = augmented(make_record(9, [[1, 1, 3, 3, 2, 0], [0, 0, 6, 4, 1, 1]]), [], 0, 0)
    assert (image_id, sample.image.shape) == (9, (4, 6, 3))
    assert sample.labels.tolist() == [2, 1]
    assert sample.crowd.tolist() == [False, True]


def test_a_record_without_boxes_comes_as_a_bare_zero():
    assert augmented(make_record(9, 0.0), [], 0, 0)[1].boxes.shape == (0, 4)


def test_randomness_is_a_function_of_seed_epoch_and_image():
    def flips(seed, epoch):
        records = [make_record(image, [[0, 0, 1, 1, 0, 0]]) for image in range(-20, 20)]
        return [augmented(r, [HorizontalFlip(0.5)], seed, epoch)[1].boxes[0, 0] > 0 for r in records]

    assert flips(1, 2) == flips(1, 2)
    assert flips(1, 2) != flips(1, 3)
    assert flips(1, 2) != flips(2, 2)
    assert 8 < sum(flips(1, 2)) < 32


def test_a_damaged_image_is_named():
    with pytest.raises(UserError, match=r"a\.png: image 9: .*--verify"):
        augmented(make_record(9, 0.0, b"\x89PNG\r\n\x1a\nnothing"), [], 0, 0)
