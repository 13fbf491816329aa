"""The mosaic: four images without overlap, boxes on their objects, flags and probability."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.data.transforms import Letterbox, Mosaic, RandomAffine, apply
from tests.support.painted import COLOURS, assert_on_objects, bare, extent, painted


def four(sizes):
    """A sample of each size with one rectangle, labelled 0 to 3; that of label 2 is a crowd region."""
    samples = []
    for label, (height, width) in enumerate(sizes):
        sample = painted(height, width, [(width // 4, height // 4, 3 * width // 4, 3 * height // 4)], [label])
        sample.crowd[:] = label == 2
        samples.append(sample)
    return samples


SIZES = st.lists(st.tuples(st.integers(20, 150), st.integers(20, 150)), min_size=4, max_size=4)


@settings(deadline=None)
@given(sizes=SIZES, height=st.integers(40, 90), width=st.integers(40, 90), seed=st.integers(0, 10**6))
def test_boxes_stay_on_their_objects(sizes, height, width, seed):
    sample, *others = four(sizes)
    result = Mosaic(height, width, 1.0)(sample, np.random.default_rng(seed), others)
    assert result.image.shape == (2 * height, 2 * width, 3)
    assert_on_objects(result, 1.0)
    assert result.crowd.tolist() == (result.labels == 2).tolist()
    for label in {0, 1, 2, 3} - set(result.labels.tolist()):
        assert extent(result.image, label) is None


def test_four_images_of_full_size_fill_a_rectangle_that_holds_the_canvas_middle():
    for seed in range(60):
        sample, *others = four([(96, 128)] * 4)
        result = Mosaic(48, 64, 1.0)(sample, np.random.default_rng(seed), others)
        grey = (result.image == 114).all(2)
        rows, columns = np.flatnonzero(~grey.all(1)), np.flatnonzero(~grey.all(0))
        assert not grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].any()
        # They meet 24 to 72 pixels from the top, 32 to 96 from the left, and each reaches 48 and 64 from there.
        assert (rows[0] == 0) or (rows[-1] == 95)
        assert (columns[0] == 0) or (columns[-1] == 127)
        assert len(rows) >= 72
        assert len(columns) >= 96


def test_the_image_itself_comes_to_each_place():
    corners = np.zeros((2, 2), int)
    for seed in range(200):
        sample, *others = four([(64, 64)] * 4)
        result = Mosaic(64, 64, 1.0)(sample, np.random.default_rng(seed), others)
        box = result.boxes[result.labels == 0]
        if len(box):
            middle = (box[0, :2] + box[0, 2:]) / 2 > 64
            corners[int(middle[1]), int(middle[0])] += 1
    assert corners.min() > 25


def test_an_image_mixed_with_itself_has_its_boxes_four_times():
    samples = [painted(50, 50, [(20, 20, 30, 30)]) for _ in range(4)]
    result = Mosaic(50, 50, 1.0)(samples[0], np.random.default_rng(1), samples[1:])
    assert len(result.boxes) == 4
    for x1, y1, x2, y2 in result.boxes.astype(int):
        assert (result.image[y1:y2, x1:x2] == COLOURS[0] * 255).all()


def test_images_without_boxes():
    result = Mosaic(30, 40, 1.0)(bare(20, 20), np.random.default_rng(0), [bare(9, 80), bare(50, 3), bare(40, 30)])
    assert result.boxes.shape == (0, 4)
    assert (result.labels.dtype, result.crowd.dtype) == (np.int32, bool)
    one = painted(40, 30, [(10, 10, 20, 20)], [3])
    result = Mosaic(30, 40, 1.0)(bare(20, 20), np.random.default_rng(0), [bare(9, 80), one, bare(40, 30)])
    assert result.labels.tolist() == [3]


def test_otherwise_it_is_a_letterbox():
    mosaic, mixed = Mosaic(40, 40, 0.3), 0
    for seed in range(300):
        sample, *others = four([(60, 30)] * 4)
        result = mosaic(sample, np.random.default_rng(seed), others)
        if result.image.shape[0] == 80:
            mixed += 1
            continue
        alone = Letterbox(40, 40)(four([(60, 30)])[0], np.random.default_rng(0))
        np.testing.assert_array_equal(result.image, alone.image)
        np.testing.assert_array_equal(result.boxes, alone.boxes)
    assert 60 < mixed < 120


def test_without_probability_it_needs_no_others():
    assert (Mosaic(8, 8, 0.0).num_others, Mosaic(8, 8, 0.01).num_others) == (0, 3)
    assert Mosaic(8, 8, 0.0)(bare(20, 20), np.random.default_rng(0), []).image.shape == (8, 8, 3)


@settings(deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 10**6), degrees=st.sampled_from([0, 10]))
def test_mosaic_and_affine_together(sizes, seed, degrees):
    sample, *others = four(sizes)
    transforms = [Mosaic(64, 96, 1.0), RandomAffine(64, 96, degrees, 0.1, 0.5, 0)]
    result = apply(transforms, sample, np.random.default_rng(seed), others)
    assert result.image.shape == (64, 96, 3)
    if not degrees:  # a turned rectangle that is cut is smaller than the bounds of its corners
        assert_on_objects(result, 1.5)
    assert result.crowd.tolist() == (result.labels == 2).tolist()


@pytest.mark.parametrize("arguments", [(0, 8, 1.0), (8, 8, -0.1), (8, 8, 1.1)])
def test_impossible_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="found"):
        Mosaic(*arguments)
