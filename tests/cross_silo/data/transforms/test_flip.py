"""Mirrored images."""

import numpy as np
import pytest

from cross_silo.data.transforms import HorizontalFlip, VerticalFlip
from tests.support.painted import assert_on_objects, bare, painted


@pytest.mark.parametrize(
    ("flip", "mirrored", "moved"),
    [
        (HorizontalFlip, np.s_[:, ::-1], [[9, 1, 12, 8], [0, 0, 14, 9]]),
        (VerticalFlip, np.s_[::-1], [[2, 1, 5, 8], [0, 0, 14, 9]]),
    ],
)
def test_flip_mirrors_pixels_and_boxes_and_twice_is_nothing(flip, mirrored, moved):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    boxes = [[2, 1, 5, 8], [0, 0, 14, 9]]
    once = flip(1.0)(bare(9, 14, boxes, image.copy()), np.random.default_rng(0))
    np.testing.assert_array_equal(once.image, image[mirrored])
    np.testing.assert_allclose(once.boxes, moved)
    twice = flip(1.0)(once, np.random.default_rng(0))
    np.testing.assert_array_equal(twice.image, image)
    np.testing.assert_allclose(twice.boxes, boxes)


@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_boxes_stay_on_their_objects(flip):
    sample = painted(11, 17, [(1, 2, 5, 4), (8, 3, 17, 11)])
    sample.crowd[1] = True
    result = flip(1.0)(sample, np.random.default_rng(0))
    assert_on_objects(result, 0)
    assert (len(result.boxes), result.crowd.tolist()) == (2, [False, True])
    assert flip(1.0)(bare(4, 5), np.random.default_rng(0)).boxes.shape == (0, 4)


@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_flip_happens_as_often_as_it_should(flip):
    some = flip(0.3)
    source = np.random.default_rng(0)
    flipped = sum(some(bare(8, 8, [[0, 0, 2, 2]]), source).boxes[0].max() > 2 for _ in range(1000))
    assert 250 < flipped < 350
    assert flip(0.0)(bare(8, 8, [[0, 0, 2, 2]]), source).boxes[0].tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize("probability", [-0.1, 1.5])
@pytest.mark.parametrize("flip", [HorizontalFlip, VerticalFlip])
def test_impossible_probabilities_are_refused(flip, probability):
    with pytest.raises(ValueError, match=f"found {probability}"):
        flip(probability)
