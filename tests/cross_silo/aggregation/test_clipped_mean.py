"""The clipped mean against numpy in float64."""

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.averaging import PIECE
from cross_silo.aggregation.clipped_mean import ClippedSum
from cross_silo.aggregation.norms import squared_norm
from cross_silo.aggregation.update import CheckedUpdate

SIZES = {"a": PIECE + 17, "b": 3, "empty": 0}
RNG = np.random.default_rng(1)
MODEL = {name: RNG.standard_normal(size).astype(np.float32) for name, size in SIZES.items()}


def silo(distance, samples):
    """Weights at about ``distance`` from the model, and the update that is sent of them."""
    steps = {name: RNG.standard_normal(size) for name, size in SIZES.items()}
    length = np.sqrt(sum(np.square(step).sum() for step in steps.values()))
    weights = {name: np.float32(MODEL[name] + steps[name] * distance / length) for name in SIZES}
    pushed = {name: values * np.float32(samples) for name, values in weights.items()}
    norm = np.sqrt(squared_norm(pushed, samples, MODEL, SIZES))
    assert norm == pytest.approx(distance, rel=1e-3)
    return weights, CheckedUpdate(pushed, samples, norm=norm)


def expected(silos, threshold):
    """The weighted mean of model + min(1, threshold / norm) * (weights - model)."""
    total, means = sum(update.samples for _, update in silos), {}
    for name, size in SIZES.items():
        mean = np.zeros(size)
        for weights, update in silos:
            difference = weights[name].astype(np.float64) - MODEL[name]
            mean += update.samples / total * (MODEL[name] + min(1, threshold / update.norm) * difference)
        means[name] = mean
    return means


@pytest.mark.parametrize("distances", [(1, 2), (9, 2, 7), (1, 50, 2), (1, 2, 80), (60, 70)])
@pytest.mark.parametrize("last_is_known", [True, False])
def test_equals_numpy(distances, last_is_known):
    threshold = 4.0
    out = {name: np.full(size, np.nan, np.float32) for name, size in SIZES.items()}
    clipped = ClippedSum(lambda: SimpleNamespace(tensors=out), threshold, lambda: MODEL)
    silos = [silo(distance, 10 + 7 * i) for i, distance in enumerate(distances)]
    total = sum(update.samples for _, update in silos)
    for i, (_, update) in enumerate(silos, 1):
        clipped.add((1, 1), update, total if last_is_known and i == len(silos) else None)
    if not last_is_known:
        clipped.divide(total)
    for name, values in expected(silos, threshold).items():
        np.testing.assert_allclose(out[name], values, rtol=2e-5, atol=2e-6)


def test_an_absurd_update_moves_the_model_by_the_threshold_only():
    out = {name: np.empty(size, np.float32) for name, size in SIZES.items()}
    clipped = ClippedSum(lambda: SimpleNamespace(tensors=out), 0.5, lambda: MODEL)
    pushed = {name: np.full(size, 3e38, np.float32) for name, size in SIZES.items()}
    norm = np.sqrt(squared_norm(pushed, 1, MODEL, SIZES))
    clipped.add((1, 1), CheckedUpdate(pushed, 1, norm=norm), 1)
    assert np.sqrt(squared_norm(out, 1, MODEL, SIZES)) <= 0.5 * 1.001


def test_the_updates_own_buffer_is_left_as_it_is():
    out = {name: np.empty(size, np.float32) for name, size in SIZES.items()}
    clipped = ClippedSum(lambda: SimpleNamespace(tensors=out), 1.0, lambda: MODEL)
    _, update = silo(30, 5)
    before = {name: values.copy() for name, values in update.tensors.items()}
    clipped.add((1, 1), update, 5)
    for name, values in before.items():
        np.testing.assert_array_equal(update.tensors[name], values)


def test_without_a_norm_it_is_a_fault():
    clipped = ClippedSum(lambda: SimpleNamespace(tensors={}), 1.0, lambda: MODEL)
    with pytest.raises(ValueError, match="norm"):
        clipped.add((1, 1), CheckedUpdate({}, 1), None)
