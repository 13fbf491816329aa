"""Feature maps are moved by whole cells and their boxes by as many pixels."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo.mistnet.feature_transforms import FeatureAugmentation, FeatureSample, mirrored, shifted

HEIGHT, WIDTH, STRIDE = 32, 48, 8


def marked(box):
    """A map of two channels in which the cells below ``box`` are 1 in the first."""
    features = np.zeros((2, HEIGHT // STRIDE, WIDTH // STRIDE), np.float32)
    x1, y1, x2, y2 = (int(v) // STRIDE for v in box)
    features[0, y1:y2, x1:x2] = 1
    return FeatureSample(features, np.float32([[*box, 2, 0]]))


def box_of(features):
    """The box of the cells that are 1."""
    ys, xs = np.nonzero(features[0] == 1)
    return [xs.min() * STRIDE, ys.min() * STRIDE, (xs.max() + 1) * STRIDE, (ys.max() + 1) * STRIDE]


def test_mirrored():
    sample = marked((8, 8, 24, 32))
    moved = mirrored(sample, WIDTH)
    assert moved.labels.tolist() == [[24, 8, 40, 32, 2, 0]]
    assert box_of(moved.features) == [24, 8, 40, 32]
    again = mirrored(moved, WIDTH)
    assert np.array_equal(again.features, sample.features) and np.array_equal(again.labels, sample.labels)


@pytest.mark.parametrize("down, right", [(0, 0), (1, -1), (-1, 2), (-1, 0), (0, 3)])
def test_shifted(down, right):
    sample = marked((8, 8, 24, 24))
    moved = shifted(sample, down, right, HEIGHT, WIDTH)
    expected = [8 + right * STRIDE, 8 + down * STRIDE, 24 + right * STRIDE, 24 + down * STRIDE]
    assert box_of(moved.features) == expected
    assert moved.labels.tolist() == [[*expected, 2, 0]]
    assert sample.labels.tolist() == [[8, 8, 24, 24, 2, 0]]


def test_boxes_are_cut_at_the_border_and_gone_where_little_is_left():
    sample = marked((8, 8, 24, 24))
    half = shifted(sample, 0, -2, HEIGHT, WIDTH)
    assert half.labels.tolist() == [[0, 8, 8, 24, 2, 0]] and box_of(half.features) == [0, 8, 8, 24]
    sample.labels[0, 0] = 6  # 2 pixels more on the left
    assert len(shifted(sample, -2, -2, HEIGHT, WIDTH).labels) == 0
    assert len(shifted(sample, 0, -3, HEIGHT, WIDTH).labels) == 0


def test_an_image_without_objects():
    sample = FeatureSample(np.ones((2, 4, 6), np.float32), np.zeros((0, 6), np.float32))
    augment = FeatureAugmentation(1.0, 0.5, HEIGHT, WIDTH)
    assert augment(sample, np.random.default_rng(1)).labels.shape == (0, 6)


def test_drawn_moves_are_within_bounds_and_reach_them():
    sample = marked((16, 8, 24, 24))
    augment, rng = FeatureAugmentation(0.5, 0.25, HEIGHT, WIDTH), np.random.default_rng(3)
    seen = set()
    for _ in range(300):
        moved = augment(sample, rng)
        assert box_of(moved.features) == moved.labels[0, :4].tolist()
        seen.add(tuple(moved.labels[0, :2]))
    assert {y for _, y in seen} == {0, 8, 16}
    assert {x for x, _ in seen} == {8, 16, 24, 32}
    none = FeatureAugmentation(0.0, 0.0, HEIGHT, WIDTH)(sample, rng)
    assert none.features is sample.features
