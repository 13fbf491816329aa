"""The random affine map: boxes on their objects, which boxes stay, and the ranges of its draws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cross_silo.data.transforms import RandomAffine
from tests.support.painted import assert_on_objects, bare, painted


class Drawn:
    """A generator whose uniform draws are given: angle, scale, shears, shifts."""

    def __init__(self, *draws):
        self.draws = np.array(draws, float)

    def uniform(self, low, high, count):
        assert (low, high, count) == (-1, 1, len(self.draws))
        return self.draws


DRAWS = st.tuples(*(st.floats(-1, 1),) * 6)


@settings(deadline=None)
@given(draws=DRAWS, size=st.tuples(st.integers(100, 180), st.integers(100, 180)))
def test_boxes_stay_on_their_objects(draws, size):
    height, width = size
    middle_y, middle_x = height // 2, width // 2
    boxes = [  # near enough to the middle to stay inside whole: a turned rectangle that is cut is not its bounds
        (middle_x - 24, middle_y - 20, middle_x - 4, middle_y - 3),
        (middle_x + 3, middle_y - 18, middle_x + 22, middle_y + 20),
        (middle_x - 20, middle_y + 2, middle_x - 5, middle_y + 20),
    ]
    sample = painted(height, width, boxes)
    sample.crowd[1] = True
    result = RandomAffine(160, 200, 45, 0.1, 0.4, 8)(sample, Drawn(*draws))
    assert result.image.shape == (160, 200, 3)
    assert result.labels.tolist() == [0, 1, 2]
    assert result.crowd.tolist() == [False, True, False]
    assert_on_objects(result, 2.0)  # the point of a corner has few pixels


@settings(deadline=None)
@given(draws=DRAWS, seed=st.integers(0, 10**6))
def test_boxes_are_cut_where_their_objects_are(draws, seed):
    rng = np.random.default_rng(seed)
    low, extent = rng.integers(0, 100, (6, 2)), rng.integers(5, 60, (6, 2))
    for label, (start, end) in enumerate(zip(low, np.minimum(low + extent, 120))):
        sample = painted(120, 120, [(*start, *end)], [label])
        result = RandomAffine(64, 64, 0, 0.2, 0.5, 0)(sample, Drawn(*draws))
        assert_on_objects(result, 1.2)


def test_no_strength_crops_the_middle():
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    result = RandomAffine(40, 50, 0, 0, 0, 0)(bare(80, 100, [[30, 30, 60, 50]], image), np.random.default_rng(0))
    np.testing.assert_array_equal(result.image, image[20:60, 25:75])
    np.testing.assert_allclose(result.boxes, [[5, 10, 35, 30]])
    same = RandomAffine(80, 100, 0, 0, 0, 0)(bare(80, 100, [[30, 30, 60, 50]], image), np.random.default_rng(0))
    np.testing.assert_array_equal(same.image, image)
    np.testing.assert_allclose(same.boxes, [[30, 30, 60, 50]])


def test_the_same_map_is_the_same_place_whether_or_not_it_shows_the_border():
    """Only inside the image it is a crop that is resized: a wide margin around the image decides that."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((100, 80), Image.BICUBIC)
    inside = np.full((480, 500, 3), 114, np.uint8)
    inside[200:280, 200:300] = smooth
    for draws in rng.uniform(-1, 1, (20, 6)):
        affine = RandomAffine(160, 200, 0, 0.1, 0.5, 0)
        bordered = affine(bare(80, 100, [[5, 5, 95, 75]], np.asarray(smooth)), Drawn(*draws))
        resized = affine(bare(480, 500, [[205, 205, 295, 275]], inside), Drawn(*draws))
        np.testing.assert_allclose(bordered.boxes, resized.boxes, atol=1e-4)
        x1, y1, x2, y2 = bordered.boxes[0].astype(int)
        difference = (bordered.image.astype(int) - resized.image)[y1:y2, x1:x2]
        assert np.abs(difference).mean() < 1  # half a pixel would be 3 or more


def test_what_lies_outside_is_grey():
    white = np.full((40, 40, 3), 255, np.uint8)
    result = RandomAffine(40, 40, 0, 0.25, 0, 0)(bare(40, 40, [], white), Drawn(0, 0, 0, 0, 1, -1))
    assert (result.image[:30, 10:] == 255).all()
    assert (result.image[:, :10] == 114).all()
    assert (result.image[30:] == 114).all()


def test_a_known_map():
    """A quarter turn at half size about the middle: (60, 50) lies 10 right of it, thus 5 above or below it."""
    sample = bare(100, 100, [[60, 40, 90, 48]])
    result = RandomAffine(100, 100, 90, 0, 0.5, 0)(sample, Drawn(1, -1, 0, 0, 0, 0))
    np.testing.assert_allclose(result.boxes, [[45, 30, 49, 45]], atol=1e-4)
    sheared = RandomAffine(100, 100, 0, 0, 0, 30)(bare(100, 100, [[50, 50, 60, 60]]), Drawn(0, 0, 1, 0, 0, 0))
    np.testing.assert_allclose(sheared.boxes, [[50, 50, 60 + 10 * math.tan(math.pi / 6), 60]], atol=1e-4)


@pytest.mark.parametrize(
    ("box", "stays"),
    [
        ([0, 50, 40, 60], False),  # 2 of 40 pixels stay inside
        ([20, 50, 43, 60], True),  # 5 of 23
        ([50, 50, 52, 60], False),  # 2 wide
        ([50, 50, 52.5, 60], True),
        ([50, 50, 60, 52], False),
        ([39, 80, 142, 83.1], True),  # 104 x 3.1
        ([39, 50, 345, 53.02], False),  # 300 x 3.02: more than 100 to one where the canvas has room
    ],
)
def test_boxes_of_which_little_is_left_go(box, stays):
    sample = bare(100, 380, [[45, 45, 60, 60], box])
    sample.labels = np.array([4, 7], np.int32)
    result = RandomAffine(100, 304, 0, 0, 0, 0)(sample, np.random.default_rng(0))
    assert result.labels.tolist() == ([4, 7] if stays else [4])


def test_the_share_is_of_the_scaled_box():
    shrunk = RandomAffine(100, 100, 0, 0, 0.8, 0)(bare(100, 100, [[40, 40, 80, 80]]), Drawn(0, -1, 0, 0, 0, 0))
    np.testing.assert_allclose(shrunk.boxes, [[48, 48, 56, 56]], atol=1e-4)  # 0.04 of its area, but whole


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_draws_stay_within_their_ranges(seed):
    affine = RandomAffine(100, 200, 0, 0.2, 0.3, 0)
    (x1, y1, x2, y2) = affine(bare(100, 200, [[95, 48, 105, 52]]), np.random.default_rng(seed)).boxes[0]
    assert 7 - 1e-4 <= x2 - x1 <= 13 + 1e-4
    assert (y2 - y1) * 2.5 == pytest.approx(x2 - x1, rel=1e-4)
    assert 60 - 1e-3 <= (x1 + x2) / 2 <= 140 + 1e-3
    assert 30 - 1e-3 <= (y1 + y2) / 2 <= 70 + 1e-3


def test_no_boxes():
    result = RandomAffine(30, 40, 10, 0.1, 0.5, 2)(bare(60, 80), np.random.default_rng(0))
    assert (result.boxes.shape, result.image.shape) == ((0, 4), (30, 40, 3))


@pytest.mark.parametrize(
    "change", [{"height": 0}, {"degrees": 181}, {"translate": -0.1}, {"scale": 1.0}, {"shear": 45}]
)
def test_impossible_settings_are_refused(change):
    keys = {"height": 8, "width": 8, "degrees": 0, "translate": 0, "scale": 0, "shear": 0, **change}
    with pytest.raises(ValueError, match="found"):
        RandomAffine(**keys)
