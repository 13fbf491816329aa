"""Writes a state_dict as torch.save does: a zip archive of a pickle and one aligned record a tensor.

The pickle is put together from opcodes by hand; ``torch.load(path, weights_only=True)`` reads it. Opcodes: CPython's
``Lib/pickle.py``; the archive's layout: https://pytorch.org/docs/stable/notes/serialization.html.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO, List, Mapping, Sequence, Union

import numpy as np

from cross_silo.checkpoint.pytorch.records import ELEMENTS, REBUILD_TENSOR
from cross_silo.checkpoint.replace import written_beside

ALIGNMENT = 64
"""Records begin at a multiple of this, in bytes."""
PADDING_FIELD = 0x4246
"""Identifier of the field that pads a record's header, as torch.save has it."""
LOCAL_HEADER_BYTES = 30
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of every record, so that the same tensors make the same file."""
_STORAGES = {np.dtype(element): name for name, element in ELEMENTS.items() if element != "bf16"}


def write_torch(path: Union[str, os.PathLike], tensors: Mapping[str, np.ndarray]) -> int:
    """Write a state_dict beside ``path`` and rename it into place; return its size in bytes.

    Raises:
        ValueError: PyTorch has no storage for a tensor's element type.
        OSError: the disk refuses; ``path`` is as it was before.
    """
    content = state_dict_pickle(tensors)
    root = Path(path).stem or "archive"
    with written_beside(path) as descriptor, open(descriptor, "w+b", closefd=False) as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            _record(archive, file, f"{root}/data.pkl", content)
            _record(archive, file, f"{root}/byteorder", b"little")
            for index, tensor in enumerate(tensors.values()):
                flat = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).reshape(-1)
                _record(archive, file, f"{root}/data/{index}", memoryview(flat.view(np.uint8)))
            _record(archive, file, f"{root}/version", b"3\n")
        return file.tell()


def _record(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: Union[bytes, memoryview]) -> None:
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.file_size = len(content)
    before = file.tell() + LOCAL_HEADER_BYTES + len(name.encode()) + 4
    if entry.file_size >= zipfile.ZIP64_LIMIT:
        before += 20  # zipfile adds the sizes in 8 bytes each
    fill = -before % ALIGNMENT
    entry.extra = struct.pack("<HH", PADDING_FIELD, fill) + b"Z" * fill
    with archive.open(entry, "w") as record:
        record.write(content)


def state_dict_pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of an OrderedDict of tensors; the tensor at index i has the storage ``str(i)``.

    Raises:
        ValueError: PyTorch has no storage for a tensor's element type.
    """
    parts: List[bytes] = [pickle.PROTO + b"\x02", _ordered_dict(), pickle.MARK]
    for index, (name, tensor) in enumerate(tensors.items()):
        storage = _STORAGES.get(tensor.dtype.newbyteorder("<"))
        if storage is None:
            known = ", ".join(str(dtype) for dtype in _STORAGES)
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, PyTorch's files have {known}")
        strides = np.cumprod([1, *tensor.shape[:0:-1]])[::-1] if tensor.ndim else ()
        parts += [
            _text(name),
            _global(REBUILD_TENSOR[0]),
            pickle.MARK,
            *(pickle.MARK, _text("storage"), _global(storage), _text(str(index)), _text("cpu")),
            *(_number(tensor.size), pickle.TUPLE, pickle.BINPERSID),
            _number(0),
            _numbers(tensor.shape),
            _numbers([int(stride) for stride in strides]),
            pickle.NEWFALSE,
            _ordered_dict(),
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode("ascii")


def _ordered_dict() -> bytes:
    return _global("collections.OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    encoded = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def _numbers(values: Sequence[int]) -> bytes:
    return pickle.MARK + b"".join(_number(value) for value in values) + pickle.TUPLE
