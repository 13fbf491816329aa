import numpy as np

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
