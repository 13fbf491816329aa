"""Synthetic images: tight boxes, visible objects, and nothing but the shape tells the class."""

import numpy as np
import pytest

from cross_silo.data import synthetic
from cross_silo.data.synthetic import SHAPES, draw_image
from cross_silo.data.textures import FILLS


@pytest.fixture(scope="module")
def drawn():
    return [draw_image(96, 128, 3, 1, index, "training") for index in range(300)]


def test_images_and_boxes_are_sound(drawn):
    counts = [len(objects) for _, objects in drawn]
    assert set(counts) == {1, 2, 3, 4, 5}
    for image, objects in drawn:
        assert (image.shape, image.dtype) == ((96, 128, 3), np.uint8)
        for item in objects:
            x, y, width, height = item.box
            assert x >= 0
            assert y >= 0
            assert x + width <= 128
            assert y + height <= 96
            assert 8 <= max(width, height) <= 0.55 * 96
            assert 0.2 * width * height < item.area <= width * height


def test_classes_are_even(drawn):
    labels = np.concatenate([[item.label for item in objects] for _, objects in drawn])
    assert np.bincount(labels, minlength=3).min() > 0.28 * len(labels)


def test_the_seed_the_index_and_the_set_decide():
    first = draw_image(64, 64, 3, 5, 2, "training")
    again = draw_image(64, 64, 3, 5, 2, "training")
    np.testing.assert_array_equal(first[0], again[0])
    assert first[1] == again[1]
    for other in ((6, 2, "training"), (5, 3, "training"), (5, 2, "validation"), (5, 2, "public")):
        assert not np.array_equal(first[0], draw_image(64, 64, 3, *other)[0])


def test_colour_and_size_say_nothing_about_the_class(drawn):
    """Means by class of what a shortcut could use differ by no more than chance."""
    features, labels = [], []
    for image, objects in drawn:
        if len(objects) == 1:
            x, y, width, height = objects[0].box
            middle = image[y + height // 2, x + width // 2].astype(float)
            background = image[0, 0].astype(float)
            features.append([*middle, *background, max(width, height), x + width / 2, y + height / 2])
            labels.append(objects[0].label)
    features, labels = np.array(features), np.array(labels)
    for label in range(3):
        mine = features[labels == label]
        error = features.std(0) * np.sqrt(1 / len(mine) + 1 / len(features))
        assert (np.abs(mine.mean(0) - features.mean(0)) < 4 * error).all()


def test_shapes_are_of_like_size():
    """Areas by the shoelace formula, in units of the circle's radius: none is tiny, the circle's is pi."""
    for points in SHAPES.values():
        corners = np.array(points)
        x, y = corners.T
        assert np.hypot(x, y).max() <= 1.2
        assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 > 0.9
    circle = np.array(SHAPES["circle"])
    x, y = circle.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert area == pytest.approx(np.pi, rel=0.01)


def test_masks_touch_all_four_sides_of_their_box():
    rng = np.random.default_rng(0)
    for points in SHAPES.values():
        for _ in range(20):
            mask = synthetic._mask(rng, points, 100)
            assert mask.max() == 1.0
            assert all(side.max() > 0 for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def test_later_objects_leave_earlier_ones_mostly_visible(monkeypatch):
    """Redraws what is where from the masks that were placed."""
    placed = []
    place = synthetic._place
    monkeypatch.setattr(synthetic, "_place", lambda *args: placed.append(place(*args)) or placed[-1])
    overlaps = 0
    for index in range(200):
        placed.clear()
        _, objects = draw_image(96, 96, 3, 3, index, "training")
        cover = np.full((96, 96), -1)
        for number, (mask, left, top) in enumerate(item for item in placed if item is not None):
            region = cover[top : top + mask.shape[0], left : left + mask.shape[1]]
            region[mask >= 0.5] = number
        for number, item in enumerate(objects):
            visible = (cover == number).sum() / item.area
            assert visible >= 1 - synthetic.MAX_HIDDEN
            overlaps += visible < 1
    assert overlaps > 20


def test_objects_stand_out_from_what_they_cover():
    rng = np.random.default_rng(0)
    mask = np.ones((20, 20), np.float32)
    differences = []
    for _ in range(100):
        region = np.full((20, 20, 3), 128, np.float32)
        synthetic._paint(rng, region, mask, FILLS["training"])
        differences.append(np.abs(region.mean((0, 1)) - 128).mean())
    assert np.median(differences) > synthetic.MIN_CONTRAST - 10
