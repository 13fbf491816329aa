"""The trimmed mean against a sort and a mean by numpy."""

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.averaging import NonFiniteAverageError
from cross_silo.aggregation.held_updates import PIECE
from cross_silo.aggregation.trimmed_mean import TrimmedMean
from cross_silo.aggregation.update import CheckedUpdate

SIZE = PIECE + 7


def trimmed_mean_of(weights, share, samples=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)):
    out = {"w": np.empty(weights.shape[1], np.float32)}
    rule = TrimmedMean(lambda: SimpleNamespace(tensors=out), share)
    for i, (row, count) in enumerate(zip(weights, samples), 1):
        rule.add((1, 1), CheckedUpdate({"w": row * np.float32(count)}, count), 1 if i == len(weights) else None)
    return out["w"]


@pytest.mark.parametrize(
    ("silos", "share", "cut"),
    [(3, 0.1, 1), (4, 0.25, 1), (5, 0.2, 1), (5, 0.21, 2), (10, 0.3, 3), (10, 0.1, 1), (7, 0.49, 3), (2, 0.4, 0)],
)
def test_equals_numpy(silos, share, cut):
    """0.3 of 10 are 3, though 0.3 * 10 in binary is a little more."""
    weights = np.random.default_rng(silos).standard_normal((silos, SIZE)).astype(np.float32)
    kept = np.sort(weights.astype(np.float64), axis=0)[cut : silos - cut]
    np.testing.assert_allclose(trimmed_mean_of(weights, share), kept.mean(axis=0), rtol=2e-6, atol=2e-7)


def test_as_many_odd_ones_as_are_cut_do_no_harm():
    honest = np.random.default_rng(0).standard_normal((4, 1000)).astype(np.float32)
    hostile = np.full((1, 1000), 3e37, np.float32)
    found = trimmed_mean_of(np.concatenate([hostile, honest]), 0.2)
    assert (np.abs(found) <= np.abs(honest).max(axis=0) * (1 + 1e-6)).all()


def test_a_mean_beyond_float32_is_told():
    with pytest.raises(NonFiniteAverageError, match="tensor 'w' is beyond float32"):
        trimmed_mean_of(np.full((5, 3), 3e38, np.float32), 0.1, samples=(1,) * 5)
