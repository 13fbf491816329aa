import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cross_silo.detection.suppression import suppress
from faster_rcnn.anchors import make_anchors
from faster_rcnn.proposals import Proposals

HEIGHT, WIDTH, STRIDES = 32, 64, (8, 16, 32)
PRE, MOST, THRESHOLD, LEAST = 30, 25, 0.6, 6.0


def reference(anchors, logits, deltas):
    """One image's proposals: best first."""
    found, scores, start = [], [], 0
    for level in anchors:
        score, delta = logits[start : start + len(level)], deltas[start : start + len(level)]
        start += len(level)
        order = np.argsort(-score)[:PRE]
        boxes = []
        for (x1, y1, x2, y2), (dx, dy, dw, dh) in zip(level[order], delta[order]):
            w, h = x2 - x1, y2 - y1
            x, y, w, h = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h, w * np.exp(dw), h * np.exp(dh)
            boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        large = (boxes[:, 2:] - boxes[:, :2]).min(1) >= LEAST
        boxes, score = boxes[large], score[order][large]
        kept = suppress(boxes, THRESHOLD)
        found.append(boxes[kept])
        scores.append(score[kept])
    order = np.argsort(-np.concatenate(scores))[:MOST]
    return np.concatenate(found)[order]


@pytest.fixture(scope="module")
def case():
    anchors = make_anchors(HEIGHT, WIDTH, STRIDES, (2.0,), (0.5, 1.0, 2.0))
    rng = np.random.default_rng(0)
    count = sum(len(level) for level in anchors)
    return anchors, rng.standard_normal((3, count), np.float32), 0.3 * rng.standard_normal((3, count, 4), np.float32)


def test_equals_per_image_per_level_suppression(case):
    from mindspore import Tensor

    anchors, logits, deltas = case
    logits[2] -= 20  # all unlikely: the order counts, not the value
    cell = Proposals(anchors, HEIGHT, WIDTH, PRE, MOST, THRESHOLD, LEAST)
    boxes, valid = (out.asnumpy() for out in cell(Tensor(logits), Tensor(deltas)))
    assert boxes.shape == (3, MOST, 4)
    for image in range(3):
        expected = reference(anchors, logits[image], deltas[image])
        assert valid[image].sum() == len(expected)
        np.testing.assert_allclose(boxes[image][valid[image]], expected, atol=1e-3)


def test_identical_boxes_of_other_images_and_levels_do_not_suppress(case):
    from mindspore import Tensor

    box = np.array([[8, 8, 24, 24]], np.float32)
    cell = Proposals([box, box], HEIGHT, WIDTH, PRE, MOST, THRESHOLD, LEAST)
    _, valid = cell(Tensor(np.ones((3, 2), np.float32)), Tensor(np.zeros((3, 2, 4), np.float32)))
    assert valid.asnumpy().all()


def test_mask_marks_missing_proposals(case):
    from mindspore import Tensor

    box = np.array([[8, 8, 24, 24]] * 3, np.float32)
    cell = Proposals([box], HEIGHT, WIDTH, PRE, MOST, THRESHOLD, LEAST)
    boxes, valid = cell(Tensor(np.array([[1, 3, 2]], np.float32)), Tensor(np.zeros((1, 3, 4), np.float32)))
    assert boxes.shape == (1, 3, 4)
    assert valid.asnumpy().tolist() == [[True, False, False]]


@pytest.fixture(scope="module")
def cell(case):
    return Proposals(case[0], HEIGHT, WIDTH, PRE, MOST, THRESHOLD, LEAST)


@settings(max_examples=30, deadline=None)
@given(
    logits=arrays(np.float32, 3, elements=st.floats(-50, 50, width=32)),
    scale=st.sampled_from([0.0, 1.0, 100.0]),
    seed=st.integers(0, 999),
)
def test_proposals_of_any_output_are_apart_inside_and_large_enough(cell, case, logits, scale, seed):
    from mindspore import Tensor

    rng = np.random.default_rng(seed)
    count = case[1].shape[1]
    scores = logits[:, None] + np.zeros((3, count), np.float32)  # equal in each image
    deltas = (scale * rng.standard_normal((3, count, 4))).astype(np.float32)
    boxes, valid = (out.asnumpy() for out in cell(Tensor(scores), Tensor(deltas)))
    assert np.isfinite(boxes).all() and valid.any() == (valid[:, 0]).any()
    found = boxes[valid]
    assert (found >= 0).all() and (found <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert not len(found) or (found[:, 2:] - found[:, :2]).min() >= LEAST
    assert (np.diff(valid.astype(int), axis=1) <= 0).all()  # those that exist stand first
