"""Resizing and padding: boxes follow the pixels, and evaluation's way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.data.transforms import Letterbox, ResizeAndPad
from cross_silo.evaluation.coco_ap import detections_to_coco
from tests.support.painted import assert_on_objects, bare, painted


def rng(seed=0):
    return np.random.default_rng(seed)


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
    sample = painted(*size, [(10, 6, 26, 24)])
    result = ResizeAndPad(60, 60, keep_ratio)(sample, rng())
    assert result.image.shape == (60, 60, 3)
    assert result.image.dtype == np.uint8
    assert result.scale == pytest.approx(scale)
    assert result.pad == (0.0, 0.0)
    np.testing.assert_allclose(result.boxes[0], np.array([10, 6, 26, 24]) * [*scale, *scale], rtol=1e-6)
    assert_on_objects(result, 1.0)


def test_padding_is_right_and_below_with_the_given_value():
    image = np.full((20, 40, 3), 7, np.uint8)
    result = ResizeAndPad(50, 60, True, (1, 2, 3))(bare(20, 40, [], image), rng())
    assert (result.image[:30, :60] == 7).all()
    assert (result.image[30:] == (1, 2, 3)).all()
    tall = ResizeAndPad(50, 60, True, (1, 2, 3))(bare(40, 20, [], np.full((40, 20, 3), 7, np.uint8)), rng())
    assert (tall.image[:, :25] == 7).all()
    assert (tall.image[:, 25:] == (1, 2, 3)).all()


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = rng().integers(0, 256, (32, 48, 3), dtype=np.uint8)
    result = ResizeAndPad(32, 48)(bare(32, 48, [[0, 0, 5, 5]], image.copy()), rng())
    np.testing.assert_array_equal(result.image, image)
    assert result.scale == (1.0, 1.0)


def test_scales_of_two_resizes_multiply():
    sample = ResizeAndPad(50, 50)(bare(100, 100, []), rng())
    assert ResizeAndPad(200, 200)(sample, rng()).scale == pytest.approx((2.0, 2.0))


def test_resize_of_an_extreme_ratio_keeps_a_pixel():
    result = ResizeAndPad(16, 16)(bare(1, 1000, []), rng())
    assert result.image.shape == (16, 16, 3)
    assert result.scale == pytest.approx((0.016, 1.0))


def test_boxes_are_cut_at_the_resized_image_not_at_the_padding():
    result = ResizeAndPad(40, 40)(bare(20, 40, [[30, 10, 60, 40], [5, 25, 9, 30]]), rng())
    np.testing.assert_allclose(result.boxes, [[30, 10, 40, 20]])
    assert result.labels.tolist() == [0]


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(30, 150), st.integers(30, 150)),
    target=st.tuples(st.integers(20, 160), st.integers(20, 160)),
    make=st.sampled_from([Letterbox, ResizeAndPad, lambda *size: ResizeAndPad(*size, keep_ratio=False)]),
)
def test_boxes_stay_on_their_objects_and_find_back(size, target, make):
    height, width = size
    boxes = [(3, 2, width // 2 - 4, height // 2), (width // 2 + 4, 5, width, height)]
    result = make(*target)(painted(*size, boxes), rng())
    assert result.image.shape == (*target, 3)
    small = min(result.scale) < 0.4
    if not small:  # else the rectangles are of few pixels
        assert len(result.boxes) == 2
        assert_on_objects(result, 1.0)
    detections = (result.boxes, np.ones(2, np.float32), result.labels)
    back = detections_to_coco(detections, result.scale, result.pad, size, 7, [1, 2])
    expected = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes]
    np.testing.assert_allclose([entry["bbox"] for entry in back], expected, atol=1e-3)


def test_letterbox_pads_both_sides_alike_with_grey():
    image = np.full((20, 40, 3), 7, np.uint8)
    wide = Letterbox(51, 60)(bare(20, 40, [[0, 0, 40, 20]], image), rng())
    assert (wide.scale, wide.pad) == ((1.5, 1.5), (0.0, 10.0))
    assert (wide.image[10:40] == 7).all()
    assert (wide.image[:10] == 114).all()
    assert (wide.image[40:] == 114).all()
    np.testing.assert_allclose(wide.boxes, [[0, 10, 60, 40]])
    tall = Letterbox(60, 50)(bare(40, 20, [], image.transpose(1, 0, 2)), rng())
    assert tall.pad == (10.0, 0.0)
    assert (tall.image[:, 10:40] == 7).all()
    assert (tall.image[:, 40:] == 114).all()


@settings(deadline=None)
@given(*(st.integers(1, 5000),) * 4)
def test_a_resized_size_is_its_own(height, width, most_height, most_width):
    resizing = Letterbox(most_height, most_width)
    size = resizing.resized(height, width)
    assert size[0] == most_height or size[1] == most_width
    assert size[0] <= most_height
    assert size[1] <= most_width
    assert resizing.resized(*size) == size


@pytest.mark.parametrize("make", [ResizeAndPad, Letterbox])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_impossible_sizes_are_refused(make, size):
    with pytest.raises(ValueError, match="found"):
        make(*size)
