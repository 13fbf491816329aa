import numpy as np
import pytest

from faster_rcnn.losses import box_loss, class_loss, count, objectness_loss


def test_objectness_is_the_mean_over_used_slots(in_graph):
    logits = np.array([[2.0, -1.0, 3.0], [0.5, 80.0, -80.0]], np.float32)
    positive = np.array([[True, False, False], [True, True, True]])
    used = np.array([[True, True, False], [True, True, True]])
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -np.log(np.where(positive, p, 1 - p))[used].mean()
    np.testing.assert_allclose(in_graph(objectness_loss)(logits, positive, used), expected, rtol=1e-5)


def test_class_loss_is_the_mean_cross_entropy_of_used_rows(in_graph):
    logits = np.array([[1, 2, 3], [0, 0, 0], [100, 0, -100]], np.float32)
    labels = np.array([2, 1, 0], np.int32)
    rows = [-np.log(np.exp(3) / np.exp([1, 2, 3]).sum()), np.log(3), 0.0]
    loss = in_graph(class_loss)
    np.testing.assert_allclose(loss(logits, labels, np.array([True, True, False])), np.mean(rows[:2]), rtol=1e-5)
    np.testing.assert_allclose(loss(logits, labels, np.array([True, True, True])), np.mean(rows), rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_box_loss_is_smooth_l1_of_positives_over_the_normaliser(in_graph, beta):
    rng = np.random.default_rng(0)
    deltas, targets = rng.standard_normal((2, 3, 5, 4), np.float32)
    positive = rng.random((3, 5)) < 0.4
    difference = np.abs(deltas - targets)[positive]
    expected = sum(d - beta / 2 if d >= beta else d * d / (2 * beta) for d in difference.ravel()) / 7
    found = in_graph(box_loss, beta)(deltas, targets, positive, np.float32(7))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_sampled_is_a_loss_of_zero(in_graph):
    none = np.zeros((2, 3), bool)
    zeros = np.zeros((2, 3, 4), np.float32)
    assert in_graph(count)(none) == 1
    assert in_graph(objectness_loss)(zeros[..., 0] + 5, none, none) == 0
    assert in_graph(box_loss, 1.0)(zeros, zeros + np.inf, none, np.float32(1)) == 0
