import numpy as np

from faster_rcnn.anchors import level_sizes, make_anchors


def test_levels_cover_the_image():
    assert level_sizes(160, 96, (4, 8, 16, 32, 64)) == [(40, 24), (20, 12), (10, 6), (5, 3), (3, 2)]


def test_sides_follow_stride_scale_and_ratio():
    (level,) = make_anchors(32, 32, (16,), (2.0, 4.0), (0.25, 1.0))
    first = level[:4]  # ratio, then scale, at the first position
    sides = first[:, 2:] - first[:, :2]
    np.testing.assert_allclose(sides, [[64, 16], [128, 32], [32, 32], [64, 64]], rtol=1e-6)
    np.testing.assert_allclose((first[:, :2] + first[:, 2:]) / 2, np.full((4, 2), 8), atol=1e-5)


def test_rows_go_by_y_then_x():
    (level,) = make_anchors(32, 64, (16,), (1.0,), (1.0,))
    expected = [[x, y, x + 16, y + 16] for y in (0, 16) for x in (0, 16, 32, 48)]
    np.testing.assert_allclose(level, expected)
    assert level.dtype == np.float32


def test_each_level_has_anchors_of_its_stride():
    levels = make_anchors(64, 64, (8, 16, 32), (4.0,), (1.0,))
    assert [len(level) for level in levels] == [64, 16, 4]
    assert [float(level[0, 2] - level[0, 0]) for level in levels] == [32, 64, 128]
