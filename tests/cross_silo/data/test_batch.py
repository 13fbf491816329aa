"""Batches: padding, validity, and which boxes stay where not all fit."""

import numpy as np

from cross_silo.data.batch import make_batch
from cross_silo.data.transforms import Sample


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
