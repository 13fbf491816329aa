"""Tensors as numpy views of a file's storages; every offset, size and stride is checked first."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Tuple

import numpy as np

from cross_silo.checkpoint import bfloat16
from cross_silo.checkpoint.pytorch.records import SHOWN, RefusedError, Storage, Tensor

MAX_SHARING = 4
"""Tensors may hold this many times the values of their storages: tied layers do, but not without bound."""


class Storages:
    """The storages of one file, each read once.

    Args:
        locate: from a storage's key to its bytes; raises RefusedError where there are none.
        big_endian: whether the file's numbers are.
    """

    def __init__(self, locate: Callable[[str], memoryview], big_endian: bool = False) -> None:
        self._locate = locate
        self._order = ">" if big_endian else "<"
        self._read: Dict[str, Tuple[Storage, np.ndarray]] = {}

    def arrays(self, tensors: Iterable[Tuple[str, Tensor]]) -> Dict[str, np.ndarray]:
        """Return read-only arrays by name; half and bfloat16 numbers become float32, exactly.

        Raises:
            RefusedError: a tensor reaches outside its storage, overlaps itself, or all together share too much.
        """
        arrays: Dict[str, np.ndarray] = {}
        for name, tensor in tensors:
            arrays[name] = self._view(tensor, name[:SHOWN])
        held = sum(flat.size for _, flat in self._read.values())
        asked = sum(array.size for array in arrays.values())
        if asked > MAX_SHARING * held:
            raise RefusedError(f"its tensors have {asked:,} values, its storages only {held:,}")
        return arrays

    def _view(self, tensor: Tensor, name: str) -> np.ndarray:
        check_strides(tensor, name)
        flat = self._flat(tensor.storage, name)
        if 0 in tensor.size:
            try:
                return np.zeros(tensor.size, flat.dtype)
            except ValueError:
                raise RefusedError(f"tensor {name!r} has no numbers and the size {tensor.size}") from None
        strides = tuple(stride * flat.itemsize for stride in tensor.stride)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)

    def _flat(self, storage: Storage, name: str) -> np.ndarray:
        """Return a storage's numbers."""
        if storage.key in self._read:
            known, flat = self._read[storage.key]
            if (known.element, known.count) != (storage.element, storage.count):
                raise RefusedError(
                    f"storage {storage.key[:SHOWN]!r} is described in two ways, again for tensor {name!r}"
                )
            return flat
        content = self._locate(storage.key)
        half = storage.element == "bf16"
        dtype = np.dtype(self._order + ("u2" if half else storage.element))
        if len(content) != storage.count * item_bytes(storage.element):
            raise RefusedError(
                f"storage {storage.key[:SHOWN]!r} of tensor {name!r} has {len(content)} bytes, "
                f"expected {storage.count} numbers of {dtype.itemsize}"
            )
        flat = np.frombuffer(content, dtype)
        if half:
            flat = bfloat16.to_float32(flat)
        elif storage.element == "f2":
            flat = flat.astype("<f4")
        elif storage.element == "?":
            flat = flat.view(np.uint8) != 0
        elif not flat.flags.aligned or self._order == ">":
            flat = flat.astype(dtype.newbyteorder("<"))
        flat.flags.writeable = False
        self._read[storage.key] = storage, flat
        return flat


def item_bytes(element: str) -> int:
    """Return the bytes of one number of an element type of the records."""
    return 2 if element == "bf16" else np.dtype(element).itemsize


def check_strides(tensor: Tensor, name: str) -> None:
    """Raise RefusedError where ``tensor`` reaches outside its storage, or two of its places are one."""
    if 0 in tensor.size:
        return
    last = tensor.offset
    for stride, size in sorted(zip(tensor.stride, tensor.size)):
        if size == 1:
            continue
        if stride <= last - tensor.offset:
            raise RefusedError(f"tensor {name!r} overlaps itself: size {tensor.size}, strides {tensor.stride}")
        last += (size - 1) * stride
    if last >= tensor.storage.count:
        raise RefusedError(
            f"tensor {name!r} reaches outside its storage: its last number is {last}, the storage has "
            f"{tensor.storage.count}"
        )
