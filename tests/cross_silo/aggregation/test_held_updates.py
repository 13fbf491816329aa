"""Updates that are held until a round's last one is in."""

from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.averaging import NonFiniteAverageError
from cross_silo.aggregation.held_updates import PIECE, HeldUpdates
from cross_silo.aggregation.update import CheckedUpdate

SIZES = {"a": 2 * PIECE + 3, "b": 1, "empty": 0}


class Largest(HeldUpdates):
    """A rule of the test's own."""

    def combine(self, rows, out):
        np.copyto(out, rows[-1])


def constant(value, samples=1):
    return CheckedUpdate({name: np.full(size, value * samples, np.float32) for name, size in SIZES.items()}, samples)


@pytest.fixture
def model():
    return {name: np.full(size, np.nan, np.float32) for name, size in SIZES.items()}


@pytest.fixture
def largest(model):
    return Largest(lambda: SimpleNamespace(tensors=model))


def test_samples_are_divided_out(largest, model):
    for value, samples in ((1.0, 500), (3.0, 2), (2.0, 1000)):
        largest.add((1, 1), constant(value, samples), 1502 if value == 2 else None)
    assert all((values == 3).all() for values in model.values())


def test_an_update_is_copied(largest, model):
    first = constant(5)
    largest.add((1, 1), first, None)
    first.tensors["a"][:] = 100  # its buffer receives the next upload
    largest.add((1, 1), constant(4), 2)
    assert (model["a"] == 5).all()


def test_an_attempt_that_failed_leaves_nothing(largest, model):
    largest.add((1, 1), constant(9), None)
    largest.add((1, 2), constant(1), None)
    largest.add((1, 2), constant(2), 2)
    assert (model["a"] == 2).all()


def test_reset_forgets_though_the_round_has_the_same_number(largest, model):
    largest.add((1, 1), constant(9), None)
    largest.reset()
    largest.add((1, 1), constant(1), 1)
    assert (model["a"] == 1).all()


def test_a_round_whose_last_update_was_not_known_as_such(largest, model):
    largest.add((1, 1), constant(1), None)
    largest.add((1, 1), constant(2), None)
    assert np.isnan(model["a"]).all()
    largest.divide(2)
    assert (model["a"] == 2).all()


def test_memory_is_used_again(largest):
    for key in ((1, 1), (2, 1), (2, 2), (3, 1)):
        for _ in range(3):
            largest.add(key, constant(1), None)
        if key != (2, 1):
            largest.divide(3)
    assert len(largest._held) + len(largest._free) == 3


def test_a_value_beyond_float32_is_told(largest):
    with pytest.raises(NonFiniteAverageError, match="tensor 'a' is beyond float32"):
        largest.add((1, 1), constant(np.inf), 1)
