"""Views of storages against numpy's own, and views that no file may ask for."""

import numpy as np
import pytest

from cross_silo.checkpoint.pytorch.records import RefusedError, Storage, Tensor
from cross_silo.checkpoint.pytorch.storages import Storages

NUMBERS = np.arange(12, dtype=np.float32)


def storages(numbers=NUMBERS, **others):
    contents = {"0": numbers.tobytes(), **{key: value.tobytes() for key, value in others.items()}}
    return Storages(lambda key: memoryview(contents[key]))


def view(offset, size, stride, count=12, element="f4", key="0"):
    return Tensor(Storage(key, element, count), offset, size, stride)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (view(0, (3, 4), (4, 1)), NUMBERS.reshape(3, 4)),
        (view(0, (4, 3), (1, 4)), NUMBERS.reshape(3, 4).T),
        (view(2, (2, 3), (5, 1)), np.stack([NUMBERS[2:5], NUMBERS[7:10]])),
        (view(1, (3,), (4,)), NUMBERS[1::4]),
        (view(11, (), ()), NUMBERS[11]),
        (view(11, (1, 1), (999, 0)), NUMBERS[11:].reshape(1, 1)),
        (view(0, (0, 5), (5, 1)), np.zeros((0, 5))),
        (view(99, (3, 0), (0, 0)), np.zeros((3, 0))),
    ],
)
def test_a_view_is_numpys(tensor, expected):
    found = storages().arrays([("w", tensor)])["w"]
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape and found.dtype == np.float32
    assert found.size == 0 or not found.flags.writeable


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (view(0, (13,), (1,)), "'w' reaches outside its storage: its last number is 12, the storage has 12"),
        (view(1, (3, 4), (4, 1)), "reaches outside its storage"),
        (view(12, (), ()), "reaches outside its storage"),
        (view(0, (2**59, 2**59, 0), (0, 0, 0)), "'w' has no numbers and the size"),
        (view(0, (2, 2), (2**59, 1)), "reaches outside its storage"),
        (view(0, (2**59,), (0,)), "overlaps itself"),
        (view(0, (4, 3), (1, 1)), "overlaps itself"),
        (view(0, (2, 3, 2), (3, 2, 1)), "overlaps itself"),
        (view(0, (12,), (1,), count=10**15), "has 48 bytes, expected 1000000000000000 numbers of 4"),
        (view(0, (12,), (1,), element="f8"), "has 48 bytes, expected 12 numbers of 8"),
    ],
)
def test_a_view_that_reaches_elsewhere_is_refused(tensor, message):
    with pytest.raises(RefusedError, match=message):
        storages().arrays([("w", tensor)])


def test_many_views_of_few_numbers_are_refused():
    whole = view(0, (12,), (1,))
    assert len(storages().arrays([(str(i), whole) for i in range(4)])) == 4  # as tied layers are
    with pytest.raises(RefusedError, match="its tensors have 60 values, its storages only 12"):
        storages().arrays([(str(i), whole) for i in range(5)])


def test_a_storage_has_one_type():
    with pytest.raises(RefusedError, match="'0' is described in two ways"):
        storages().arrays([("a", view(0, (12,), (1,))), ("b", view(0, (12,), (1,), element="i4"))])


def test_half_precision_becomes_float32_exactly():
    numbers = np.float32([1.5, -(2.0**-14), 65504, np.inf, 3.140625])
    upper = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    read = storages(numbers.astype(np.float16), b=upper)
    found = read.arrays(
        [
            ("h", view(0, (5,), (1,), 5, "f2")),
            ("b", view(0, (5,), (1,), 5, "bf16", "b")),
            ("c", view(3, (2,), (1,), 5, "f2")),
        ]
    )
    np.testing.assert_array_equal(found["h"], numbers)
    np.testing.assert_array_equal(found["c"], numbers[3:])
    np.testing.assert_array_equal(found["b"], (upper.astype(np.uint32) << 16).view(np.float32))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("element", ["f8", "f4", "i8", "i4", "i2", "i1", "u1"])
def test_numbers_in_either_byte_order(element):
    for order in "<>":
        numbers = np.arange(-3, 4).astype(order + element)
        found = Storages(lambda key, n=numbers: memoryview(b"x" + n.tobytes())[1:], order == ">").arrays(
            [("w", view(0, (7,), (1,), 7, element))]
        )["w"]
        np.testing.assert_array_equal(found, numbers)
        assert found.dtype == np.dtype(element) and found.flags.aligned


def test_any_byte_but_0_is_true():
    found = storages(np.uint8([0, 1, 2, 255])).arrays([("w", view(0, (4,), (1,), 4, "?"))])["w"]
    assert found.dtype == bool and found.tolist() == [False, True, True, True]
