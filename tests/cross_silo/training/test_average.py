"""The moving average in closed form, and what it means in a federation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cross_silo.config.model import ModelConfig
from cross_silo.training.average import PIECE, MovingAverage


class Array:
    """A tensor that a test sets."""

    def __init__(self, value):
        self.value = np.array(value, np.float32)

    def asnumpy(self):
        return self.value


def config(**values):
    return ModelConfig("d", **{"ema_decay": 0.9, "ema_ramp_steps": 4, **values})


def decay(step):
    return 0.9 * (1 - math.exp(-step / 4))


def test_each_step_is_weighted_in_closed_form():
    random = np.random.default_rng(0)
    trajectory = random.normal(size=(8, 3, PIECE // 2 + 7))  # pieces do not divide it
    tensor = Array(trajectory[0])
    average = MovingAverage({"w": tensor}, config())
    for step in range(1, 8):
        tensor.value = trajectory[step].astype(np.float32)
        average.update(step)
    shares = [math.prod(decay(step) for step in range(1, 8))]
    shares += [(1 - decay(step)) * math.prod(decay(later) for later in range(step + 1, 8)) for step in range(1, 8)]
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(average.values()["w"], np.tensordot(shares, trajectory, 1), rtol=1e-4, atol=1e-5)


def test_without_a_ramp_the_decay_is_whole_at_once():
    tensor = Array([0.0])
    average = MovingAverage({"w": tensor}, config(ema_ramp_steps=0))
    tensor.value[:] = 1
    average.update(1)
    assert average.values()["w"][0] == pytest.approx(0.1)


def test_the_mean_of_silos_averages_is_the_average_of_their_mean():
    """Three rounds of four steps of two silos with weights 1 and 3 that drift apart."""
    share = np.array([0.25, 0.75])
    silos = [Array([0.0]), Array([0.0])]
    averages = [MovingAverage({"w": silo}, config()) for silo in silos]
    mean = Array([0.0])
    of_mean = MovingAverage({"w": mean}, config())
    for step in range(1, 13):
        for silo, drift in zip(silos, (7.0, -2.0)):
            silo.value = silo.value + np.float32(drift)
        mean.value = sum(p * silo.value for p, silo in zip(share, silos)).astype(np.float32)
        for average in (*averages, of_mean):
            average.update(step)
        if step % 4 == 0:
            for silo in silos:
                silo.value = mean.value.copy()
    found = sum(p * average.values()["w"] for p, average in zip(share, averages))
    np.testing.assert_allclose(found, of_mean.values()["w"], rtol=1e-5)


def test_an_average_stays_between_what_the_silo_had_however_it_drifts():
    """A variance that rises to 10 in each round and is 3 in each new global model."""
    variance = Array([3.0])
    average = MovingAverage({"moving_variance": variance}, config(ema_decay=0.999, ema_ramp_steps=0))
    for step in range(1, 3001):
        variance.value = np.linspace(3, 10, 10, dtype=np.float32)[[(step - 1) % 10]]
        average.update(step)
        assert 3 <= average.values()["moving_variance"][0] <= 10


def test_missed_steps_count_as_steps_at_the_new_model():
    once, often = Array([0.0]), Array([0.0])
    missed, taken = (MovingAverage({"w": tensor}, config(ema_ramp_steps=0)) for tensor in (once, often))
    for tensor in (once, often):
        tensor.value[:] = 5
    missed.update(1, times=7)
    for step in range(7):
        taken.update(step + 1)
    np.testing.assert_allclose(missed.values()["w"], taken.values()["w"], rtol=1e-6)


def test_the_state_goes_on_exactly_and_is_the_averages_own():
    tensor = Array([[1.0, 2.0]])
    average = MovingAverage({"w": tensor}, config())
    tensor.value = np.array([[4.0, -3.0]], np.float32)
    average.update(1)
    other = MovingAverage({"w": Array([[0.0, 0.0]])}, config())
    state = {name: array.reshape(-1) for name, array in average.state().items()}
    other.load_state(state)
    np.testing.assert_array_equal(other.values()["w"], average.values()["w"])
    state["average.w"][:] = 9
    assert other.values()["w"].max() < 9
    with pytest.raises(KeyError, match="average.w"):
        other.load_state({})
