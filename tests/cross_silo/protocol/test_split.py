import numpy as np
import pytest

from cross_silo.protocol.split import from_text, names_of, split, to_text

SIZES = {f"layer{i}.weight": int(size) for i, size in enumerate(np.random.default_rng(3).integers(1, 5000, 61))}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 36])
def test_every_tensor_has_one_server_and_the_bytes_are_balanced(count):
    found = split(SIZES, count)
    loads = [sum(SIZES[name] for name in names_of(found, index)) for index in range(count)]
    assert set(found) == set(SIZES)
    assert min(loads) > 0
    assert max(loads) - min(loads) <= max(SIZES.values())


def test_it_depends_on_names_and_sizes_alone():
    turned = dict(reversed(list(SIZES.items())))
    assert split(SIZES, 3) == split(turned, 3)
    assert split({"a": 3, "b": 3, "c": 1}, 2) == {"a": 0, "b": 1, "c": 0}


def test_as_text():
    found = split(SIZES, 12)
    assert from_text(to_text(found), sorted(SIZES, reverse=True), 12) == found


@pytest.mark.parametrize(("text", "count"), [("01", 2), ("0120", 2), ("01 0", 2), ("0ß10", 36), ("", 2)])
def test_a_text_that_is_no_split_of_these_tensors(text, count):
    assert from_text(text, ["a", "b", "c", "d"], count) is None
