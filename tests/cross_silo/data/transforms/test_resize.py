"""Transforms: boxes follow the pixels, jitter against plain numpy, and randomness from the generator alone."""

import colorsys

import numpy as np
import pytest

from cross_silo.data.transforms import ColorJitter, HorizontalFlip, ResizeAndPad, Sample, apply


def rng(seed=0):
    return np.random.default_rng(seed)


def make_sample(height, width, boxes, image=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    image = np.zeros((height, width, 3), np.uint8) if image is None else image
    return Sample(image, boxes, np.arange(len(boxes), dtype=np.int32), np.zeros(len(boxes), bool))


def marked(height, width, box):
    """A black image with a white box."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return make_sample(height, width, [box], image)


def extent(image):
    """x1, y1, x2, y2 of what is bright."""
    bright = image.min(2) > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize(
    ("size", "keep_ratio", "scale"),
    [
        ((60, 120), True, (0.5, 0.5)),
        ((120, 60), True, (0.5, 0.5)),
        ((30, 30), True, (2.0, 2.0)),
        ((60, 120), False, (0.5, 1.0)),
    ],
)
def test_resize_moves_boxes_with_the_pixels(size, keep_ratio, scale):
    sample = marked(*size, (10, 6, 26, 24))
    result = ResizeAndPad(60, 60, keep_ratio)(sample, rng())
    assert result.image.shape == (60, 60, 3)
    assert result.image.dtype == np.uint8
    assert result.scale == pytest.approx(scale)
    assert result.pad == (0.0, 0.0)
    np.testing.assert_allclose(result.boxes[0], np.array([10, 6, 26, 24]) * [*scale, *scale], rtol=1e-6)
    np.testing.assert_allclose(result.boxes[0], extent(result.image), atol=1.0)


def test_padding_is_right_and_below_with_the_given_value():
    image = np.full((20, 40, 3), 7, np.uint8)
    result = ResizeAndPad(50, 60, True, (1, 2, 3))(make_sample(20, 40, [], image), rng())
    assert (result.image[:30, :60] == 7).all()
    assert (result.image[30:] == (1, 2, 3)).all()
    tall = ResizeAndPad(50, 60, True, (1, 2, 3))(make_sample(40, 20, [], np.full((40, 20, 3), 7, np.uint8)), rng())
    assert (tall.image[:, :25] == 7).all()
    assert (tall.image[:, 25:] == (1, 2, 3)).all()


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = rng().integers(0, 256, (32, 48, 3), dtype=np.uint8)
    result = ResizeAndPad(32, 48)(make_sample(32, 48, [[0, 0, 5, 5]], image.copy()), rng())
    np.testing.assert_array_equal(result.image, image)
    assert result.scale == (1.0, 1.0)


def test_scales_of_two_resizes_multiply():
    sample = ResizeAndPad(50, 50)(make_sample(100, 100, []), rng())
    assert ResizeAndPad(200, 200)(sample, rng()).scale == pytest.approx((2.0, 2.0))


def test_resize_of_an_extreme_ratio_keeps_a_pixel():
    result = ResizeAndPad(16, 16)(make_sample(1, 1000, []), rng())
    assert result.image.shape == (16, 16, 3)
    assert result.scale == pytest.approx((0.016, 1.0))


def test_boxes_are_cut_at_the_resized_image_not_at_the_padding():
    result = ResizeAndPad(40, 40)(make_sample(20, 40, [[30, 10, 60, 40], [5, 25, 9, 30]]), rng())
    np.testing.assert_allclose(result.boxes, [[30, 10, 40, 20]])
    assert result.labels.tolist() == [0]


def test_apply_cuts_boxes_and_drops_empty_ones_with_their_labels():
    sample = make_sample(20, 30, [[-5, -5, 10, 10], [30, 0, 40, 10], [3, 3, 3, 9], [1, 2, 3, 4]])
    sample.crowd[3] = True
    result = apply([], sample, rng())
    np.testing.assert_allclose(result.boxes, [[0, 0, 10, 10], [1, 2, 3, 4]])
    assert result.labels.tolist() == [0, 3]
    assert result.crowd.tolist() == [False, True]


def test_apply_without_boxes():
    result = apply([HorizontalFlip(1), ResizeAndPad(8, 8)], make_sample(20, 30, []), rng())
    assert result.boxes.shape == (0, 4)


def test_flip_mirrors_pixels_and_boxes_and_twice_is_nothing():
    image = rng().integers(0, 256, (9, 14, 3), dtype=np.uint8)
    boxes = [[2, 1, 5, 8], [0, 0, 14, 9]]
    once = HorizontalFlip(1.0)(make_sample(9, 14, boxes, image.copy()), rng())
    np.testing.assert_array_equal(once.image, image[:, ::-1])
    np.testing.assert_allclose(once.boxes, [[9, 1, 12, 8], [0, 0, 14, 9]])
    twice = HorizontalFlip(1.0)(once, rng())
    np.testing.assert_array_equal(twice.image, image)
    np.testing.assert_allclose(twice.boxes, boxes)


def test_flip_happens_as_often_as_it_should():
    flip = HorizontalFlip(0.3)
    source = rng()
    left = marked(4, 8, (0, 0, 2, 4))
    flipped = 0
    for _ in range(1000):
        sample = make_sample(4, 8, left.boxes, left.image)
        flipped += flip(sample, source).boxes[0, 0] > 0
    assert 250 < flipped < 350
    assert HorizontalFlip(0.0)(left, source).boxes[0, 0] == 0


class Fixed:
    """A generator whose uniform draws are given."""

    def __init__(self, draws):
        self.draws = np.array(draws)

    def uniform(self, low, high, count):
        assert (low, high, count) == (-1, 1, len(self.draws))
        return self.draws


def jitter(image, draws, **strengths):
    strengths = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, **strengths}
    return ColorJitter(**strengths)(make_sample(*image.shape[:2], [], image.copy()), Fixed(draws)).image


def test_jitter_of_no_strength_changes_nothing():
    image = rng().integers(0, 256, (8, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(jitter(image, [1, -1, 1, -1]), image)


@pytest.mark.parametrize("draw", [-1.0, -0.4, 0.7, 1.0])
def test_jitter_equals_plain_numpy(draw):
    image = rng().integers(0, 256, (8, 9, 3), dtype=np.uint8)
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


def test_the_same_generator_state_gives_the_same_sample():
    transforms = [HorizontalFlip(0.5), ResizeAndPad(24, 24), ColorJitter(0.4, 0.4, 0.4, 0.1)]
    image = rng().integers(0, 256, (30, 40, 3), dtype=np.uint8)
    results = [apply(transforms, make_sample(30, 40, [[1, 2, 9, 9]], image.copy()), rng(s)) for s in (5, 5, 6)]
    np.testing.assert_array_equal(results[0].image, results[1].image)
    assert not np.array_equal(results[0].image, results[2].image)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResizeAndPad(0, 5),
        lambda: HorizontalFlip(1.5),
        lambda: ColorJitter(-0.1, 0, 0, 0),
        lambda: ColorJitter(0, 0, 0, 0.6),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match="found"):
        make()
