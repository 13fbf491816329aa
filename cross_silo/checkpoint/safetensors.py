"""The safetensors format: 8 bytes of header size, a JSON header, the tensors (https://github.com/huggingface/safetensors).

Read and written here because it is this short, is mapped without a copy so, and bfloat16 has no numpy type elsewhere.
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any, Dict, List, Mapping, Tuple, Union

import numpy as np

from cross_silo.checkpoint import bfloat16
from cross_silo.checkpoint.file import UnreadableCheckpointError, write_all
from cross_silo.checkpoint.replace import written_beside

MAX_HEADER_BYTES = 16 * 1024 * 1024
"""A tensor takes about 100."""
SIZE_BYTES = 8
ALIGNMENT = 8
METADATA = "__metadata__"
MAX_DIGITS = 18
MAX_SIDE = 2**31
SHOWN = 100

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("<i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype(np.bool_),
}
"""numpy's type of each of the format's; a bfloat16 is read as its bits."""
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}


class _DamagedError(ValueError):
    """Says what is wrong with the content."""


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins like one of this format."""
    size = int.from_bytes(head[:SIZE_BYTES], "little")
    return head[SIZE_BYTES : SIZE_BYTES + 1] == b"{" and 2 <= size <= MAX_HEADER_BYTES


def read_safetensors(path: Union[str, os.PathLike]) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Return the tensors by name, read-only, and the file's metadata; half and bfloat16 numbers become float32.

    Raises:
        UnreadableCheckpointError: the file cannot be read or is damaged.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size <= SIZE_BYTES:
                raise UnreadableCheckpointError(f"{path} is damaged: it is shorter than a header")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UnreadableCheckpointError(f"{path}: {error.strerror}") from None
    try:
        return _tensors(data)
    except _DamagedError as error:
        raise UnreadableCheckpointError(f"{path} is damaged or no safetensors file: {error}") from None


def _tensors(data: memoryview) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    size = int.from_bytes(data[:SIZE_BYTES], "little")
    if size > min(MAX_HEADER_BYTES, len(data) - SIZE_BYTES):
        raise _DamagedError(f"its header has {size:,} bytes, the file {len(data):,}")
    header = _header(bytes(data[SIZE_BYTES : SIZE_BYTES + size]))
    metadata = header.pop(METADATA, {})
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise _DamagedError(f"{METADATA}: expected texts by name")
    content = data[SIZE_BYTES + size :]
    places = {name: _place(name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, _, start, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if start != end:
            raise _DamagedError(f"tensor {name[:SHOWN]!r} begins at byte {start}, the one before ends at {end}")
        end = stop
    if end != len(content):
        raise _DamagedError(f"its tensors end at byte {end}, the file at {len(content)}")
    if not places:
        raise _DamagedError("it holds no tensor")
    return {name: _array(content, *place) for name, place in places.items()}, metadata


def _header(text: bytes) -> Dict[str, Any]:
    def number(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise _DamagedError(f"its header has a number of {len(digits)} digits")
        return int(digits)

    def entries(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise _DamagedError("a name stands twice in its header")
        return found

    try:
        header = json.loads(text.decode("utf-8"), parse_int=number, object_pairs_hook=entries)
    except _DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"its header is no JSON: {str(error)[:SHOWN]}") from None
    if type(header) is not dict:
        raise _DamagedError("its header is no JSON object")
    return header


def _place(name: str, entry: Any) -> Tuple[str, Tuple[int, ...], int, int]:
    """Return (type, shape, first byte, byte behind the last) of a header's entry."""
    shown = name[:SHOWN]
    if not name.isprintable():
        raise _DamagedError(f"tensor {shown!r}: control characters in a name")
    if type(entry) is not dict or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise _DamagedError(f"tensor {shown!r}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if type(dtype) is not str or dtype not in DTYPES:
        raise _DamagedError(f"tensor {shown!r} is {str(dtype)[:SHOWN]}, expected one of {', '.join(DTYPES)}")
    for numbers in (shape, offsets):
        if type(numbers) is not list or any(type(item) is not int or item < 0 for item in numbers):
            raise _DamagedError(f"tensor {shown!r}: expected whole numbers of 0 or more as shape and data_offsets")
    if len(shape) > 16 or len(offsets) != 2 or max(shape, default=0) > MAX_SIDE:
        raise _DamagedError(
            f"tensor {shown!r} has {len(shape)} dimensions, {len(offsets)} offsets, or one above {MAX_SIDE}"
        )
    expected = DTYPES[dtype].itemsize
    for side in shape:
        expected *= side
    if offsets[1] - offsets[0] != expected:
        raise _DamagedError(f"tensor {shown!r} has {offsets[1] - offsets[0]} bytes, expected {expected}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _array(content: memoryview, dtype: str, shape: Tuple[int, ...], start: int, stop: int) -> np.ndarray:
    array = np.frombuffer(content[start:stop], DTYPES[dtype])
    if dtype == "BF16":
        array = bfloat16.to_float32(array)
    elif dtype == "F16":
        array = array.astype("<f4")
    elif dtype == "BOOL":
        array = array.view(np.uint8) != 0
    elif not array.flags.aligned:
        array = array.copy()
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def write_safetensors(
    path: Union[str, os.PathLike], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> int:
    """Write a file beside ``path`` and rename it into place; return its size in bytes.

    Raises:
        ValueError: the format has no name for a tensor's element type.
        OSError: the disk refuses; ``path`` is as it was before.
    """
    header: Dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    buffers: List[memoryview] = []
    end = 0
    # Larger elements first, so that each tensor begins at a multiple of its element's size.
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        if tensor.dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, expected one of {', '.join(map(str, _NAMES))}")
        flat = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
        start, end = end, end + flat.nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        buffers.append(memoryview(flat))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    head = memoryview(len(text).to_bytes(SIZE_BYTES, "little") + text)
    with written_beside(path) as descriptor:
        return write_all(descriptor, [head, *(buffer for buffer in buffers if len(buffer))])
