import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faster_rcnn.box_coding import decode, encode

STDS = (0.1, 0.1, 0.2, 0.2)


def random_boxes(rng, *shape):
    low = rng.uniform(0, 60, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(4, 40, (*shape, 2))], -1).astype(np.float32)


def test_encode_equals_the_closed_form(in_graph):
    boxes = np.array([[10, 20, 30, 60]], np.float32)  # centre 20, 40; sides 20, 40
    references = np.array([[10, 10, 20, 30]], np.float32)  # centre 15, 20; sides 10, 20
    expected = [[0.5, 1.0, np.log(2), np.log(2)]]
    np.testing.assert_allclose(in_graph(encode)(boxes, references), expected, rtol=1e-6)
    scaled = in_graph(encode, STDS)(boxes, references)
    np.testing.assert_allclose(scaled, expected / np.array([STDS]), rtol=1e-5)


def test_decode_inverts_encode(in_graph):
    rng = np.random.default_rng(0)
    boxes, references = random_boxes(rng, 3, 50), random_boxes(rng, 3, 50)
    deltas = in_graph(encode, STDS)(boxes, references)
    np.testing.assert_allclose(in_graph(decode, 200, 200, STDS)(deltas, references), boxes, atol=1e-3)


def test_decode_clips_to_the_image(in_graph):
    references = np.array([[0, 0, 40, 40], [60, 30, 90, 50]], np.float32)
    deltas = np.array([[-0.5, 0, 0.5, 0], [0.5, 0.5, 0, 1]], np.float32)
    boxes = in_graph(decode, 48, 96)(deltas, references)
    half = 10 * np.exp(1)
    np.testing.assert_allclose(boxes, [[0, 0, 20 * np.exp(0.5), 40], [60 + 15 - 0, 50 - half, 96, 48]], rtol=1e-5)


def test_huge_deltas_and_empty_boxes_stay_finite(in_graph):
    references = np.array([[10, 10, 26, 26], [5, 5, 5, 5]], np.float32)
    deltas = np.full((2, 4), 1e4, np.float32)
    assert np.isfinite(in_graph(decode, 64, 64)(deltas, references)).all()
    nothing = np.zeros((2, 4), np.float32)
    assert np.isfinite(in_graph(encode)(nothing, references)).all()
    grown = in_graph(decode, 4000, 4000)(np.array([[0, 0, 99, 0]], np.float32), references[:1] + 1000)
    np.testing.assert_allclose(grown[0, 2] - grown[0, 0], 1000, rtol=1e-4)


SIDE = 64


def any_boxes(least):
    """Six boxes in an image of SIDE x SIDE with sides of at least ``least``; 0: lines and points, too."""
    corners = arrays(np.float32, (2, 6, 2), elements=st.floats(0, SIDE - least, width=32))
    return corners.map(lambda c: np.concatenate([c.min(0), np.maximum(c.max(0), c.min(0) + np.float32(least))], -1))


@pytest.fixture(scope="module")
def coding(in_graph):
    """encode and decode, each compiled once."""
    return in_graph(encode, STDS), in_graph(decode, SIDE, SIDE, STDS)


@settings(max_examples=50, deadline=None)
@given(boxes=any_boxes(2), references=any_boxes(2))
def test_any_boxes_come_back(coding, boxes, references):
    deltas = coding[0](boxes, references)
    np.testing.assert_allclose(coding[1](deltas, references), boxes, atol=1e-2)


@settings(max_examples=50, deadline=None)
@given(
    boxes=any_boxes(0),
    references=any_boxes(0),
    deltas=arrays(np.float32, (6, 4), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_any_deltas_of_any_boxes_are_finite_and_inside(coding, boxes, references, deltas):
    assert np.isfinite(coding[0](boxes, references)).all()
    decoded = coding[1](deltas, references)
    assert ((decoded >= 0) & (decoded <= SIDE)).all()
    assert (decoded[:, 2:] >= decoded[:, :2]).all()
