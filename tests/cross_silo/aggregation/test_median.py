"""The median against numpy's."""

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.held_updates import PIECE
from cross_silo.aggregation.median import Median
from cross_silo.aggregation.update import CheckedUpdate

SIZE = 2 * PIECE + 5


def median_of(weights, samples):
    out = {"w": np.empty(weights.shape[1], np.float32)}
    rule = Median(lambda: SimpleNamespace(tensors=out))
    for row, count in zip(weights, samples):
        rule.add((1, 1), CheckedUpdate({"w": row * np.float32(count)}, count), None)
    rule.divide(sum(samples))
    return out["w"]


@pytest.mark.parametrize("silos", [1, 2, 3, 4, 5, 8, 13])
def test_equals_numpy(silos):
    weights = np.random.default_rng(silos).standard_normal((silos, SIZE)).astype(np.float32)
    found = median_of(weights, range(1, silos + 1))
    np.testing.assert_allclose(found, np.median(weights.astype(np.float64), axis=0), rtol=1e-6, atol=1e-7)


def test_a_minority_cannot_move_a_value_beyond_the_others():
    honest = np.random.default_rng(0).standard_normal((3, 1000)).astype(np.float32)
    hostile = np.float32([[1e30] * 1000, [-1e38] * 500 + [1e38] * 500])
    found = median_of(np.concatenate([hostile, honest]), (1, 1, 7, 8, 9))
    assert (found >= honest.min(axis=0) - 1e-5).all()
    assert (found <= honest.max(axis=0) + 1e-5).all()


def test_the_two_middle_ones_may_have_a_sum_beyond_float32():
    np.testing.assert_array_equal(median_of(np.float32([[3e38], [3e38], [1], [3.2e38]]), (1,) * 4), np.float32([3e38]))
