"""Random colours against plain numpy and colorsys."""

import colorsys

import numpy as np
import pytest

from cross_silo.data.transforms import ColorJitter, HSVJitter
from tests.support.painted import bare


class Fixed:
    """A generator whose uniform draws are given."""

    def __init__(self, draws):
        self.draws = np.array(draws)

    def uniform(self, low, high, count):
        assert (low, high, count) == (-1, 1, len(self.draws))
        return self.draws


def jitter(image, draws, **strengths):
    strengths = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, **strengths}
    return ColorJitter(**strengths)(bare(*image.shape[:2], [], image.copy()), Fixed(draws)).image


def test_jitter_of_no_strength_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(jitter(image, [1, -1, 1, -1]), image)


@pytest.mark.parametrize("draw", [-1.0, -0.4, 0.7, 1.0])
def test_jitter_equals_plain_numpy(draw):
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    values = image.astype(float)
    grey = values @ [0.299, 0.587, 0.114]
    bright = np.clip(values * (1 + 0.5 * draw), 0, 255)
    np.testing.assert_allclose(jitter(image, [draw, 0, 0, 0], brightness=0.5), bright, atol=0.51)
    contrast = np.clip((values - grey.mean()) * (1 + 0.5 * draw) + grey.mean(), 0, 255)
    np.testing.assert_allclose(jitter(image, [0, draw, 0, 0], contrast=0.5), contrast, atol=1.1)
    saturated = np.clip(grey[..., None] + (values - grey[..., None]) * (1 + 0.5 * draw), 0, 255)
    np.testing.assert_allclose(jitter(image, [0, 0, draw, 0], saturation=0.5), saturated, atol=2.1)


def test_hue_turns_the_colour_circle():
    image = np.array([[[200, 40, 40], [40, 200, 40], [90, 90, 90]]], np.uint8)
    shifted = jitter(image, [0, 0, 0, 1], hue=1 / 3)
    np.testing.assert_allclose(shifted, [[[40, 200, 40], [40, 40, 200], [90, 90, 90]]], atol=8)
    turned = jitter(image, [0, 0, 0, -0.5], hue=0.5)[0, 0] / 255
    hue, saturation, value = colorsys.rgb_to_hsv(200 / 255, 40 / 255, 40 / 255)
    expected = colorsys.hsv_to_rgb((hue - 0.25) % 1, saturation, value)
    np.testing.assert_allclose(turned, expected, atol=0.04)


def hsv_jitter(image, draws, *strengths):
    return HSVJitter(*strengths)(bare(*image.shape[:2], [], image.copy()), Fixed(draws)).image


def hsv_gains(image, gains):
    """Hue, saturation and value of each pixel times their gains, by colorsys in double precision."""
    result = np.empty(image.shape)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / 255).tolist())
        hue, saturation, value = hue * gains[0] % 1, min(saturation * gains[1], 1), min(value * gains[2], 1)
        result[place] = np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
    return result


@pytest.mark.parametrize("draws", [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
def test_hsv_gains_equal_colorsys(draws):
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    image[:4] = image[:4, :, :1]  # greys
    strengths = (0.015, 0.7, 0.4)
    found = hsv_jitter(image, draws, *strengths)
    error = np.abs(found - hsv_gains(image, 1 + np.array(draws) * strengths))
    # Pillow has 255 hues: half a step of a saturated colour is 3 of 255, and one is lost by cutting, not rounding.
    assert error.max() <= 8
    assert error.mean() < 1.5


def test_hue_gains_are_cyclic():
    magenta = np.array([[[255, 0, 128], [128, 0, 255]]], np.uint8)
    found = hsv_jitter(magenta, (1, 0, 0), 0.3, 0, 0)
    np.testing.assert_allclose(found, hsv_gains(magenta, (1.3, 1, 1)), atol=10)


def test_hsv_jitter_leaves_boxes_alone_and_does_nothing_without_strength():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    sample = bare(6, 8, [[1, 2, 3, 4]], image)
    result = HSVJitter(0.1, 0.5, 0.5)(sample, np.random.default_rng(0))
    assert not np.array_equal(result.image, image)
    assert result.boxes.tolist() == [[1, 2, 3, 4]]
    np.testing.assert_array_equal(hsv_jitter(image, (1, 1, 1), 0, 0, 0), image)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ColorJitter(-0.1, 0, 0, 0),
        lambda: ColorJitter(0, 0, 0, 0.6),
        lambda: HSVJitter(1.1, 0, 0),
        lambda: HSVJitter(0, 0, -0.1),
    ],
)
def test_impossible_strengths_are_refused(make):
    with pytest.raises(ValueError, match="found"):
        make()
