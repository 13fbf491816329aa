import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cross_silo.detection.suppression import detections, suppress


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def random_boxes(rng, *shape):
    low = rng.uniform(0, 40, (*shape, 2))
    return np.concatenate([low, low + rng.uniform(5, 40, (*shape, 2))], -1).astype(np.float32)


def greedy(boxes, threshold):
    kept = []
    for k in range(len(boxes)):
        if all(iou(boxes[k], boxes[j]) <= threshold for j in kept):
            kept.append(k)
    return kept


def test_suppress_is_greedy():
    boxes = random_boxes(np.random.default_rng(0), 150)
    for threshold in (0.2, 0.5, 0.9):
        assert suppress(boxes, threshold).tolist() == greedy(boxes, threshold)
    assert suppress(boxes[:0], 0.5).tolist() == []


def test_detections_suppress_each_class_alone():
    rng = np.random.default_rng(1)
    scores, boxes = rng.random((60, 3), dtype=np.float32), random_boxes(rng, 60, 3)
    found, score, label = detections(scores, boxes, 0.3, 0.4, 100)
    expected = []
    for c in range(3):
        rows = [r for r in np.argsort(-scores[:, c]) if scores[r, c] > 0.3]
        expected += [(scores[rows[k], c], c, tuple(boxes[rows[k], c])) for k in greedy(boxes[rows, c], 0.4)]
    expected.sort(reverse=True)
    assert list(zip(score, label, map(tuple, found))) == expected
    assert found.dtype == score.dtype == np.float32 and label.dtype == np.int32


def test_detections_are_the_best_and_have_an_area():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]], np.float32)
    boxes = np.array([[[0, 0, 9, 9]], [[5, 5, 5, 9]], [[20, 20, 30, 30]], [[40, 40, 50, 50]]], np.float32)
    _, score, _ = detections(scores, boxes, 0.05, 0.5, 2)
    np.testing.assert_allclose(score, [0.9, 0.7])


def test_no_detections():
    found, score, label = detections(np.zeros((5, 2), np.float32), np.zeros((5, 2, 4), np.float32), 0.05, 0.5, 10)
    assert found.shape == (0, 4) and score.shape == label.shape == (0,)


def any_boxes(count):
    """Boxes of any corners: lines, points and equal ones, too."""
    corners = arrays(np.float32, (2, count, 2), elements=st.integers(0, 64))
    return corners.map(lambda c: np.concatenate([c.min(0), c.max(0)], -1))


@settings(max_examples=100, deadline=None)
@given(boxes=st.integers(0, 12).flatmap(any_boxes), threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_any_boxes_are_suppressed_by_a_better_one_alone(boxes, threshold):
    def overlaps(a, b):
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        inside = max(w, 0) * max(h, 0)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
        return bool(union) and inside / union > threshold

    exact = boxes.astype(float)
    kept = suppress(exact, threshold).tolist()
    assert kept == sorted(set(kept)) and (not len(boxes) or kept[0] == 0)
    for row in range(len(boxes)):
        beaten = any(overlaps(exact[better], exact[row]) for better in kept if better < row)
        assert beaten is (row not in kept)
