"""The sorting network against numpy, and by the zero-one principle."""

import itertools

import numpy as np
import pytest

from cross_silo.aggregation.sorting import comparators, sort_rows


@pytest.mark.parametrize("count", range(1, 11))
def test_every_row_of_zeros_and_ones_is_sorted(count):
    """A network that sorts these sorts everything (Knuth 5.3.4, theorem Z)."""
    columns = np.array(list(itertools.product((0, 1), repeat=count)), np.float32).T
    rows = [row.copy() for row in columns]
    sort_rows(rows, np.empty_like(rows[0]))
    np.testing.assert_array_equal(np.stack(rows), np.sort(columns, axis=0))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 33, 64])
def test_equals_numpy(count):
    values = np.random.default_rng(count).standard_normal((count, 50)).astype(np.float32)
    values[:, :10] = np.round(values[:, :10])  # with ties
    rows = [row.copy() for row in values]
    sort_rows(rows, np.empty(50, np.float32))
    np.testing.assert_array_equal(np.stack(rows), np.sort(values, axis=0))


def test_no_more_comparators_than_batcher():
    assert [len(comparators(count)) for count in (1, 2, 3, 4, 8, 16, 64)] == [0, 1, 3, 5, 19, 63, 543]
