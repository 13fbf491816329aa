"""Fit of anchors to boxes, against loops, and anchors fitted to boxes whose sizes are known."""

import numpy as np
import pytest

from cross_silo.errors import UserError
from yolo.anchors import MOST_BOXES, anchor_table, best_possible_recall, fit_anchors, fitness, in_strides
from yolo.settings import Settings

SIZES = np.array([[8, 10], [20, 14], [30, 60], [70, 40], [90, 130], [160, 150], [200, 90], [250, 300], [330, 310]])


def boxes_of(sizes, count, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    return sizes[rng.integers(len(sizes), size=count)] * np.exp(spread * rng.standard_normal((count, 2)))


def test_anchors_of_the_settings():
    table = anchor_table(Settings())
    assert table.shape == (3, 3, 2) and table.dtype == np.float32
    assert table[0, 1].tolist() == [16, 30] and table[2, 2].tolist() == [373, 326]
    assert anchor_table(Settings(anchors=((1, 2), (3, 4), (5, 6)))).tolist() == [[[1, 2]], [[3, 4]], [[5, 6]]]


def test_anchors_are_in_strides():
    found = in_strides(anchor_table(Settings()))
    assert found.shape == (3, 3, 2) and found.dtype == np.float32
    np.testing.assert_array_equal(found[0], [[1.25, 1.625], [2, 3.75], [4.125, 2.875]])
    np.testing.assert_array_equal(found[2][2], np.float32([373 / 32, 326 / 32]))


@pytest.mark.parametrize("anchor_t", [1.3, 2.0, 4.0])
def test_recall_and_fitness_are_those_of_loops(anchor_t):
    rng = np.random.default_rng(1)
    wh, anchors = rng.uniform(2, 100, (40, 2)), rng.uniform(5, 60, (6, 2))
    matched, best = [], []
    for w, h in wh:
        worst = [max(w / aw, aw / w, h / ah, ah / h) for aw, ah in anchors]
        matched.append(sum(value < anchor_t for value in worst))
        best.append(1 / min(worst) if matched[-1] else 0)
    recall, close = best_possible_recall(wh, anchors, anchor_t)
    assert 0 < recall < 1 or anchor_t == 4
    assert recall == pytest.approx(np.mean([count > 0 for count in matched]))
    assert close == pytest.approx(np.mean(matched))
    assert fitness(wh, anchors, anchor_t) == pytest.approx(np.mean(best))


def test_fitted_anchors_find_the_sizes_of_the_boxes():
    wh = boxes_of(SIZES, 600)
    anchors = fit_anchors(wh, generations=300, seed=3)
    assert anchors.shape == (9, 2)
    assert (np.diff(anchors.prod(1)) > 0).all()
    assert best_possible_recall(wh, anchors, 1.3)[0] > 0.99
    assert fitness(wh, anchors, 4.0) > 0.99 * fitness(wh, SIZES.astype(float), 4.0)


def test_mutation_never_makes_a_fit_worse_and_the_seed_decides():
    wh = boxes_of(SIZES, 300, spread=0.6)
    fits = [fitness(wh, fit_anchors(wh, 4, 2.0, generations, seed=5), 2.0) for generations in (0, 40, 200)]
    assert fits[0] < fits[1] <= fits[2]
    np.testing.assert_array_equal(fit_anchors(wh, 4, 2.0, 40, seed=5), fit_anchors(wh, 4, 2.0, 40, seed=5))
    assert (fit_anchors(wh, 4, 2.0, 40, seed=5) != fit_anchors(wh, 4, 2.0, 40, seed=6)).any()


def test_fewer_sizes_than_anchors_and_tiny_boxes():
    anchors = fit_anchors(np.tile([[40.0, 20.0]], (12, 1)), generations=20)
    assert anchors.shape == (9, 2) and np.isfinite(anchors).all()
    assert fitness(np.array([[40.0, 20.0]]), anchors, 4.0) == pytest.approx(1, abs=1e-6)
    assert fit_anchors(np.full((9, 2), 0.5), generations=5).min() >= 2


def test_fewer_boxes_than_anchors_are_refused():
    with pytest.raises(UserError, match="found 8 boxes; expected at least 9"):
        fit_anchors(np.ones((8, 2)))


def test_of_very_many_boxes_some_are_drawn():
    wh = boxes_of(SIZES, MOST_BOXES + 1000)
    assert best_possible_recall(wh, fit_anchors(wh, generations=0), 1.5)[0] > 0.9
