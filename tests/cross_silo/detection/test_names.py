"""Renaming tensors."""

import numpy as np
import pytest

from cross_silo.detection.names import NORM_FROM_OURS, NORM_TO_OURS, rename


def test_each_tensor_has_a_new_name_or_a_reason():
    given = {"a": np.ones(2), "b": np.ones(1)}
    found = rename(given, {"a": "x"}.get, lambda name: f"no {name}", lambda name, value: value * 2)
    assert list(found.tensors) == ["x"] and found.tensors["x"].tolist() == [2, 2]
    assert found.sources == {"x": "a"} and found.left_out == {"b": "no b"} and not found.notes


def test_two_tensors_for_one_name_are_an_error():
    with pytest.raises(ValueError, match="'a' and 'b' both become 'x'"):
        rename({"a": np.ones(2), "b": np.ones(1)}, lambda name: "x", str)


def test_batch_norms_names_go_both_ways():
    assert {NORM_FROM_OURS[ours]: ours for ours in NORM_FROM_OURS} == NORM_TO_OURS
