import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from faster_rcnn.matcher import intersections, match


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def common(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(w, 0) * max(h, 0)


def reference(boxes, valid, candidates, pos, neg, least=None):
    """One image by loops: box index, positive, negative."""
    iou = np.zeros((len(boxes), len(candidates)))
    covered = np.zeros(len(candidates), bool)
    for g, box in enumerate(boxes):
        for k, candidate in enumerate(candidates):
            inside = common(box, candidate)
            if valid[g] == 1:
                iou[g, k] = inside / (area(box) + area(candidate) - inside)
            elif valid[g] == -1:
                covered[k] |= inside > 0.5 * area(candidate)
    best = iou.max(0)
    positive = best >= pos
    if least is not None:
        for g in range(len(boxes)):
            if iou[g].max() >= least:
                positive |= iou[g] >= iou[g].max() - 1e-9
    return iou.argmax(0), positive, (best < neg) & ~positive & ~covered


def random_boxes(rng, *shape):
    low = rng.integers(0, 60, (*shape, 2))
    return np.concatenate([low, low + rng.integers(4, 40, (*shape, 2))], -1).astype(np.float32)


@pytest.mark.parametrize("least", [None, 0.3])
@pytest.mark.parametrize("shared", [True, False])
def test_equals_loops(in_graph, least, shared):
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 3, 6)
    valid = np.array([[1, 1, 1, 0, -1, 0], [1, -1, -1, 1, 1, 1], [0] * 6], np.int32)
    candidates = random_boxes(rng, 1 if shared else 3, 80)
    candidates[:, :5] = boxes[:1, :5]
    index, positive, negative = in_graph(match, 0.6, 0.4, least)(boxes, valid, candidates)
    for image in range(3):
        expected = reference(boxes[image], valid[image], candidates[0 if shared else image], 0.6, 0.4, least)
        np.testing.assert_array_equal(positive[image], expected[1])
        np.testing.assert_array_equal(negative[image], expected[2])
        np.testing.assert_array_equal(index[image][expected[1]], expected[0][expected[1]])
    assert positive[:2].any() and not positive[2].any() and negative[2].all()


def test_crowd_region_is_neither_object_nor_background(in_graph):
    boxes = np.array([[[0, 0, 50, 50], [60, 60, 80, 80]]], np.float32)
    valid = np.array([[-1, 1]], np.int32)
    # inside the crowd, mostly inside it, mostly outside it, on the object, elsewhere
    candidates = [[10, 10, 20, 20], [40, 0, 58, 10], [48, 0, 58, 10], [60, 60, 80, 80], [80, 0, 90, 10]]
    function = in_graph(match, 0.5, 0.5, 0.3)
    _, positive, negative = function(boxes, valid, np.array([candidates], np.float32))
    assert positive[0].tolist() == [False, False, False, True, False]
    assert negative[0].tolist() == [False, False, True, False, True]


def test_intersections_of_apart_and_nested_boxes(in_graph):
    boxes = np.array([[[0, 0, 10, 10]]], np.float32)
    candidates = np.array([[[20, 20, 30, 30], [2, 2, 4, 5], [5, 5, 15, 15], [10, 0, 20, 10]]], np.float32)
    assert in_graph(intersections)(boxes, candidates).tolist() == [[[0, 6, 25, 0]]]


def any_boxes(*shape):
    """Boxes of any corners: lines, points and equal ones, too."""
    corners = arrays(np.float32, (2, *shape, 2), elements=st.integers(0, 256).map(lambda i: i / 4))
    return corners.map(lambda c: np.concatenate([c.min(0), c.max(0)], -1))


def exact_iou(a, b):
    inside = common(a.astype(float), b.astype(float))
    union = area(a.astype(float)) + area(b.astype(float)) - inside
    return inside / union if union else 0.0


@pytest.fixture(scope="module")
def matching(in_graph):
    return in_graph(match, 0.7, 0.3, 0.25)


@settings(max_examples=60, deadline=None)
@given(
    boxes=any_boxes(1, 5),
    candidates=any_boxes(1, 12),
    valid=arrays(np.int32, (1, 5), elements=st.sampled_from([1, 1, 0, -1])),
)
def test_any_boxes_match_as_by_loops(matching, boxes, candidates, valid):
    index, positive, negative = (x[0] for x in matching(boxes, valid, candidates))
    iou = np.array([[exact_iou(b, c) if v == 1 else 0.0 for c in candidates[0]] for b, v in zip(boxes[0], valid[0])])
    best = iou.max(0)
    assert not (positive & negative).any()
    assert positive[best > 0.7 + 1e-5].all() and not negative[best > 0.3 + 1e-5].any()
    np.testing.assert_allclose(iou[index, np.arange(12)][positive], best[positive], atol=1e-5)
    for row in iou:  # every box that has a candidate at all has an object
        if row.max() > 0.25 + 1e-5:
            assert positive[row >= row.max() - 1e-9].any()
    covered = np.array(
        [
            any(v == -1 and common(b, c) > 0.5 * area(c) for b, v in zip(boxes[0], valid[0]))
            for c in candidates[0].astype(float)
        ]
    )
    assert not negative[covered].any()
    assert negative[(best < 0.25 - 1e-5) & ~covered].all()
