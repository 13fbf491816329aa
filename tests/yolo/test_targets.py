"""Which cells and anchors answer for a box; the loss's tests compare many more with loops."""

import numpy as np
import pytest

import cross_silo.runtime

HEIGHT, WIDTH, STRIDES = 64, 96, (8, 16, 32)
ANCHORS = np.array([[[16, 16], [16, 64]], [[32, 32], [8, 8]], [[64, 64], [30, 60]]], np.float32)
SMALL = 16.0  # a box's side that matches the first anchor of stride 8 alone, with anchor_t 1.5


@pytest.fixture(scope="module")
def match():
    """Return a function: of boxes (n, 4) and flags (n,), the set of (box, level, anchor, row, column) and the boxes."""
    cross_silo.runtime.start(seed=1)
    from mindspore import Tensor

    from yolo.targets import Targets

    sizes = [(HEIGHT // stride, WIDTH // stride) for stride in STRIDES]
    cell = Targets(ANCHORS, STRIDES, sizes, 1.5)

    def run(boxes, valid=None):
        boxes = np.array(boxes, np.float32)
        valid = np.ones(len(boxes)) if valid is None else np.array(valid)
        padded = np.zeros((2, 2, 4), np.float32)
        flags = np.zeros((2, 2), np.int32)
        padded.reshape(4, 4)[: len(boxes)], flags.reshape(4)[: len(boxes)] = boxes, valid
        matched, place, box = cell(Tensor(padded), Tensor(flags))
        matched, place, box = matched.asnumpy(), place.asnumpy(), [side.asnumpy() for side in box]
        assert all(np.isfinite(side).all() and side.shape == matched.shape for side in box)
        found = {}
        for level, anchor, candidate, index in np.argwhere(matched):
            row, column = divmod(place[level, 0, candidate, index], sizes[level][1])
            found[(index, level, anchor, row, column)] = [float(s[level, anchor, candidate, index]) for s in box]
        assert len(found) == matched.sum()  # none twice
        return found

    return run


def square(x, y, side=SMALL):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


@pytest.mark.parametrize(
    ("x", "y", "cells"),
    [
        (35, 27, {(3, 4), (3, 3), (2, 4)}),  # in the upper left of its cell
        (38, 30, {(3, 4), (3, 5), (4, 4)}),  # in the lower right
        (38, 27, {(3, 4), (3, 5), (2, 4)}),
        (36, 28, {(3, 4)}),  # in the middle: none is nearer
        (32, 30, {(3, 4), (3, 3), (4, 4)}),  # on the border of two cells
        (3, 3, {(0, 0)}),  # beyond the border is no cell
        (93, 61, {(7, 11)}),
        (95.9, 30, {(3, 11), (4, 11)}),
        (8, 8, {(1, 1)}),  # one cell from the border exactly: v6 asks for more
    ],
)
def test_own_cell_and_nearer_neighbours(match, x, y, cells):
    found = match([square(x, y)])
    assert {key[3:] for key in found} == cells
    assert {key[:3] for key in found} == {(0, 0, 0)}
    for (_, _, _, row, column), box in found.items():
        np.testing.assert_allclose(box, [x / 8 - column, y / 8 - row, 2, 2], atol=1e-5)
        assert min(box[:2]) >= -0.5 and max(box[:2]) <= 1.5


def test_anchors_by_the_worse_of_the_sides_ratios(match):
    def levels(width, height):
        return {key[1:3] for key in match([[48 - width / 2, 20, 48 + width / 2, 20 + height]])}

    assert levels(23.9, 16) == {(0, 0)} and levels(24, 16) == set()  # 1.5 times an anchor is too much
    assert levels(16, 10.7) == {(0, 0)} and levels(16, 10.6) == set()
    assert levels(30, 32) == {(1, 0)} and levels(8, 9) == {(1, 1)}
    assert levels(43, 43) == {(1, 0), (2, 0), (2, 1)}  # of two levels
    assert levels(20, 42) == set()


def test_no_target_for_crowd_padding_and_boxes_without_area_or_outside(match):
    for box in ([40, 20, 40, 36], [40, 36, 56, 20], [0, 0, 0, 0], square(-1, 20), square(97, 20), square(20, 64)):
        assert match([box]) == {}
    assert match([square(20, 20)] * 3, [0, -1, 0]) == {}
    assert {key[0] for key in match([square(20, 20)] * 4, [1, 0, -1, 1])} == {0, 3}
