"""FedAvg against numpy's weighted mean in float64."""

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.averaging import PIECE, NonFiniteAverageError, WeightedSum
from cross_silo.aggregation.update import CheckedUpdate

SIZES = {"a": 3 * PIECE + 17, "b": 1, "c": PIECE, "empty": 0}


def pushed(rng, samples):
    """Weights of a silo and what it sends."""
    weights = {name: rng.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}
    return weights, CheckedUpdate({name: array * np.float32(samples) for name, array in weights.items()}, samples)


def blank():
    """Memory with left-overs of an earlier round in it."""
    return {name: np.full(size, np.nan, np.float32) for name, size in SIZES.items()}


def summed_in(total):
    """A sum whose memory is ``total``."""
    return WeightedSum(lambda: SimpleNamespace(tensors=total))


def mean_of(summed, key, silos):
    for i, (_, _, update) in enumerate(silos):
        last = sum(n for _, n, _ in silos) if i == len(silos) - 1 else None
        summed.add(key, update, last)


@pytest.mark.parametrize("sizes", [(7,), (10, 30), (1, 65_535, 123), (3, 3, 3, 3, 3)])
def test_equals_numpy(sizes):
    rng = np.random.default_rng(len(sizes))
    silos = [(weights, samples, update) for samples in sizes for weights, update in [pushed(rng, samples)]]
    total = blank()
    mean_of(summed_in(total), (1, 1), silos)
    for name in SIZES:
        stacked = np.stack([weights[name] for weights, _, _ in silos]).astype(np.float64)
        expected = np.average(stacked, axis=0, weights=sizes)
        np.testing.assert_allclose(total[name], expected, rtol=1e-6, atol=1e-6)


def test_a_repeated_attempt_begins_its_own_sum():
    rng = np.random.default_rng(0)
    total = blank()
    summed = summed_in(total)
    summed.add((1, 1), pushed(rng, 5)[1], None)
    weights, update = pushed(rng, 4)
    mean_of(summed, (1, 2), [(weights, 4, update)])
    np.testing.assert_allclose(total["a"], weights["a"], rtol=1e-6)


def test_reset_begins_a_sum_though_the_round_has_the_same_number():
    rng = np.random.default_rng(0)
    total = blank()
    summed = summed_in(total)
    summed.add((1, 1), pushed(rng, 5)[1], None)
    summed.reset()
    weights, update = pushed(rng, 4)
    mean_of(summed, (1, 1), [(weights, 4, update)])
    np.testing.assert_allclose(total["a"], weights["a"], rtol=1e-6)


def test_a_sum_beyond_float32_is_told():
    update = CheckedUpdate({name: np.full(size, 1e38, np.float32) for name, size in SIZES.items()}, 1)
    total = blank()
    summed = summed_in(total)
    for _ in range(3):
        summed.add((1, 1), update, None)
    with pytest.raises(NonFiniteAverageError, match="tensor 'a' is beyond float32"):
        summed.add((1, 1), update, 4)


def test_large_finite_means_pass():
    """The sum over a piece overflows though each mean is finite."""
    update = CheckedUpdate({name: np.full(size, 3e38, np.float32) for name, size in SIZES.items()}, 1)
    total = blank()
    summed_in(total).add((1, 1), update, 1)
    assert np.isfinite(total["a"]).all()
