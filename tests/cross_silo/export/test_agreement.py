"""The comparison of two programs' detections."""

import numpy as np
import pytest

from cross_silo.export.agreement import Agreement, compare


def image(*rows):
    """Return detections from rows (x1, score, label): boxes of side 10."""
    x1, scores, labels = (np.array(column) for column in zip(*rows)) if rows else (np.zeros(0),) * 3
    boxes = np.stack([x1, x1, x1 + 10, x1 + 10], 1).astype(np.float32)
    return boxes, scores.astype(np.float32), labels.astype(np.int32)


def test_the_same_detections_in_another_order_agree():
    expected = [image((0, 0.9, 0), (30, 0.9, 1)), image()]
    found = [image((30.25, 0.9, 1), (0, 0.9005, 0)), image()]
    agreement = compare(expected, found)
    assert (agreement.expected, agreement.found, agreement.matched, agreement.holds) == (2, 2, 2, True)
    assert agreement.box_error == 0.25 and agreement.score_error == pytest.approx(0.0005, abs=1e-5)


@pytest.mark.parametrize("other", [(1, 0.9, 0), (0, 0.8, 0), (0, 0.9, 1)])
def test_another_box_score_or_class_is_no_match(other):
    agreement = compare([image((0, 0.9, 0))], [image(other)])
    assert agreement.matched == 0 and not agreement.holds


def test_one_detection_is_matched_once():
    assert compare([image((0, 0.9, 0), (0, 0.9, 0))], [image((0, 0.9, 0))]).matched == 1


def test_too_many_and_too_few_are_found():
    one = image((0, 0.9, 0))
    assert not compare([one], [image()]).holds
    assert not compare([image()], [one]).holds


def test_one_in_twenty_may_differ():
    assert Agreement(20, 20, 19, 0, 0).holds and not Agreement(20, 20, 18, 0, 0).holds
