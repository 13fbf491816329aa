"""What is sent of objects: classes by k-ary randomised response, sides moved within bounds."""

import numpy as np
import pytest

from cross_silo.mistnet.labels import WORDS_AN_OBJECT, jitter_boxes, randomise_classes, randomise_labels
from cross_silo.mistnet.privacy import keep_probability
from cross_silo.mistnet.secret import Secret

SECRET = Secret(bytes(32))


def words(count, columns, purpose=b"labels"):
    return SECRET.words(purpose, b"", count * columns).reshape(count, columns)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_class_frequencies_within_three_sigma(classes, epsilon):
    count, true = 200_000, 1
    sent = randomise_classes(np.full(count, true), words(count, 2), epsilon, classes)
    kept = keep_probability(epsilon, classes)
    for label in range(classes):
        expected = kept if label == true else (1 - kept) / (classes - 1)
        sigma = np.sqrt(expected * (1 - expected) / count)
        assert abs((sent == label).mean() - expected) < 3 * sigma


def test_one_class_has_no_other():
    np.testing.assert_array_equal(randomise_classes(np.zeros(9, int), words(9, 2), 0.1, 1), np.zeros(9))


def test_sides_move_within_their_share():
    boxes = np.tile(np.float32([[40, 20, 60, 60]]), (10_000, 1))
    moved = jitter_boxes(boxes, words(10_000, 4), 0.2, 100, 100)
    reach = np.float32([4, 8, 4, 8])  # of a box of 20 x 40
    assert (np.abs(moved - boxes) <= reach + 1e-3).all()
    np.testing.assert_allclose((moved - boxes).mean(0), 0, atol=0.15)
    np.testing.assert_allclose(np.abs(moved - boxes).max(0), reach, atol=0.1)


def test_moved_boxes_stay_in_the_image_and_keep_a_pixel():
    corners = np.float32([[0, 0, 2, 2], [98, 98, 100, 100], [0, 0, 100, 100], [99.9, 0, 100, 0.1]])
    boxes = np.repeat(corners, 500, 0)
    moved = jitter_boxes(boxes, words(2000, 4), 0.49, 100, 100)
    assert moved.min() >= 0 and moved.max() <= 100
    assert (moved[:, 2:] - moved[:, :2]).min() >= 1 - 1e-4


def test_rows_without_protection_are_sent_as_they_are():
    rows = np.float32([[1, 2, 3, 4, 2, 0], [5, 6, 9, 9, 0, 1]])
    sent = randomise_labels(rows, words(2, WORDS_AN_OBJECT).reshape(-1), None, 0.0, 3, 64, 64)
    np.testing.assert_array_equal(sent, rows)


def test_only_what_was_asked_for_changes():
    rows = np.tile(np.float32([[10, 10, 40, 50, 1, 1]]), (200, 1))
    noise = words(200, WORDS_AN_OBJECT).reshape(-1)
    classes = randomise_labels(rows, noise, 0.5, 0.0, 3, 64, 64)
    np.testing.assert_array_equal(np.delete(classes, 4, 1), np.delete(rows, 4, 1))
    assert set(classes[:, 4]) == {0, 1, 2}
    boxes = randomise_labels(rows, noise, None, 0.1, 3, 64, 64)
    np.testing.assert_array_equal(boxes[:, 4:], rows[:, 4:])
    assert (boxes[:, :4] != rows[:, :4]).any(0).all()


def test_no_objects():
    sent = randomise_labels(np.zeros((0, 6), np.float32), np.zeros(0, np.uint32), 1.0, 0.1, 3, 64, 64)
    assert sent.shape == (0, 6) and sent.dtype == np.float32
