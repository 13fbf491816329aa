"""Textures: range, spread, and that training and validation share no background."""

import numpy as np
import pytest

from cross_silo.data.textures import BACKGROUNDS, FILLS, random_fill

ALL = sorted(
    {kind for kinds in (*FILLS.values(), *BACKGROUNDS.values()) for kind in kinds}, key=lambda pattern: pattern.__name__
)


@pytest.mark.parametrize("pattern", ALL, ids=lambda pattern: pattern.__name__)
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (64, 48)])
def test_patterns_stay_within_their_range_and_vary_with_the_generator(pattern, size):
    drawn = [np.asarray(pattern(np.random.default_rng(seed), *size), float) for seed in range(6)]
    for values in drawn:
        assert values.shape == size
        assert np.abs(values).max() <= 1.3  # bicubic enlargement overshoots a little
    if size == (64, 48):
        assert not all(np.array_equal(drawn[0], values) for values in drawn[1:])


def test_a_fill_stays_about_its_colour():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        color = np.array([100.0, 120.0, 140.0])
        fill = random_fill(rng, FILLS["training"], 30, 40, color, spread=20.0)
        assert (fill.shape, fill.dtype) == ((30, 40, 3), np.float32)
        assert np.abs(fill - color).max() <= 20 * 1.3


def test_fills_are_cut_at_the_range_of_a_channel():
    fill = random_fill(np.random.default_rng(0), FILLS["training"], 30, 40, np.array([0.0, 255.0, 128.0]), spread=200.0)
    assert fill.min() >= 0
    assert fill.max() <= 255


def test_validation_has_backgrounds_of_its_own():
    assert not set(BACKGROUNDS["training"]) & set(BACKGROUNDS["validation"])


def test_public_images_share_no_texture_with_the_silos():
    public = {*BACKGROUNDS["public"], *FILLS["public"]}
    assert not public & {*BACKGROUNDS["training"], *FILLS["training"]}
    assert not set(BACKGROUNDS["public"]) & set(BACKGROUNDS["validation"])
