"""Images of rectangles in pure colours: where each is can be told from the pixels alone."""

import numpy as np

from cross_silo.data.transforms import Sample

COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
"""Of the labels 0 to 5."""


def bare(height, width, boxes=(), image=None):
    """A sample with these boxes, labelled 0, 1, ...; its image is black unless given."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((height, width, 3), np.uint8) if image is None else image
    return Sample(image, boxes, np.arange(len(boxes), dtype=np.int32), np.zeros(len(boxes), bool))


def painted(height, width, boxes, labels=None):
    """A black image with a rectangle in its label's colour for each box of whole pixels."""
    sample = bare(height, width, boxes)
    if labels is not None:
        sample.labels = np.array(labels, np.int32)
    for (x1, y1, x2, y2), label in zip(boxes, sample.labels):
        sample.image[y1:y2, x1:x2] = COLOURS[label] * 255
    return sample


def extent(image, label):
    """x1, y1, x2, y2 of the pixels that are more of the label's colour than of black or grey; None: there are none."""
    mask = ((image > 150) == COLOURS[label]).all(2)
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def assert_on_objects(sample, atol):
    """Each box is where its rectangle's pixels are, to ``atol`` pixels. Labels must not stand there twice."""
    assert sample.image.dtype == np.uint8
    assert sample.boxes.dtype == np.float32
    assert len(set(sample.labels.tolist())) == len(sample.labels) == len(sample.boxes) == len(sample.crowd)
    for box, label in zip(sample.boxes, sample.labels.tolist()):
        found = extent(sample.image, label)
        assert found is not None, (label, box)
        np.testing.assert_allclose(box, found, atol=atol, err_msg=f"label {label}")
