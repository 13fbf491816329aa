"""Norms of updates against numpy in float64, and their limits."""

import numpy as np
import pytest

from cross_silo.aggregation.averaging import PIECE
from cross_silo.aggregation.norms import NormLimit, squared_norm


@pytest.mark.parametrize("samples", [1, 7, 65_536])
def test_equals_numpy(samples):
    rng = np.random.default_rng(samples)
    model = {name: rng.standard_normal(size).astype(np.float32) for name, size in (("a", 2 * PIECE + 9), ("b", 4))}
    weights = {name: values + rng.standard_normal(values.shape).astype(np.float32) for name, values in model.items()}
    pushed = {name: values * np.float32(samples) for name, values in weights.items()}
    squares = {name: np.square(weights[name].astype(np.float64) - model[name]).sum() for name in model}
    assert np.sqrt(squared_norm(pushed, samples, model, ["a", "b"])) == pytest.approx(
        np.sqrt(sum(squares.values())), rel=1e-5
    )
    assert np.sqrt(squared_norm(pushed, samples, model, ["b"])) == pytest.approx(np.sqrt(squares["b"]), rel=1e-4)
    assert np.sqrt(squared_norm(pushed, samples, model, [])) == 0


@pytest.mark.parametrize("value", [1e25, -3.4e38])
def test_norms_beyond_float32(value):
    model = {"a": np.full(3, -1e38, np.float32)}
    difference = np.float64(np.float32(value)) - np.float64(np.float32(-1e38))
    found = np.sqrt(squared_norm({"a": np.full(3, value, np.float32)}, 1, model, ["a"]))
    assert found == pytest.approx(abs(difference) * np.sqrt(3), rel=1e-6)


def test_an_absolute_limit():
    limit = NormLimit(10.0, 0.0, 4)
    assert limit.problem(10.0) == ""
    assert limit.problem(10.5) == "its norm is 10.5, expected at most 10 (aggregation.max_update_norm)"


def test_a_multiple_of_the_median():
    limit = NormLimit(0.0, 3.0, 4)
    assert [limit.problem(norm) for norm in (1.0, 500.0, 2.0)] == ["", "", ""]  # a median of fewer says nothing
    assert limit.problem(6.0) == ""
    assert limit.problem(12.1) == (
        "its norm is 12.1, expected at most 3 times the median 4 of the last ones (aggregation.max_update_norm_factor)"
    )


def test_a_refused_norm_moves_no_median_and_old_ones_are_forgotten():
    limit = NormLimit(0.0, 2.0, 3)
    assert not any(limit.problem(norm) for norm in (8.0, 8.0, 8.0))
    assert all(limit.problem(norm) for norm in [1000.0] * 5)
    assert not any(limit.problem(norm) for norm in (4.0, 2.0, 2.0))  # norms shrink as training goes on
    assert limit.problem(8.0)


def test_both_limits():
    limit = NormLimit(5.0, 2.0, 3)
    assert not any(limit.problem(norm) for norm in (4.0, 4.0, 4.0))
    assert "max_update_norm)" in limit.problem(7.0)
