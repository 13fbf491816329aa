"""MindSpore's checkpoint message on the wire: protocol buffers whose tensors are used in place.

The schema (``mindspore/train/checkpoint_pb2.py``)::

    Checkpoint       { repeated Value value = 1; }
    Checkpoint.Value { required string tag = 1; oneof { TensorProto tensor = 2; MapTensorProto maptensor = 3; } }
    TensorProto      { repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3; }

A tensor above 512 MiB is spread over neighbouring values of one tag. ``crc_num`` and ten bytes, big-endian, of the
CRC-32 of all before them may end the file. Encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Optional, Sequence, Tuple

SLICE_BYTES = 512 * 1024 * 1024
"""Content of one value at most, as MindSpore writes it."""
ALIGNMENT = 64
"""Tensor contents begin at a multiple of this (a cache line), so that a mapped file needs no copy."""
CRC_MARK = b"crc_num"
CRC_BYTES = 10

_TAG, _TENSOR, _MAP_TENSOR, _PADDING = 1, 2, 3, 15
_DIMS, _TYPE, _CONTENT = 1, 2, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class DamagedFileError(ValueError):
    """The bytes are no checkpoint; says where and why."""


@dataclass
class Entry:
    """One value of the message: a tensor or a part of one."""

    tag: str
    tensor_type: str
    dims: Tuple[int, ...]
    start: int
    """Offset of the content in the file, in bytes."""
    end: int


def varint(value: int) -> bytes:
    """Return the base-128 encoding of a number of 0 or more."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + varint(len(payload)) + payload


def header(tag: str, tensor_type: str, dims: Sequence[int], size: int, offset: int) -> bytes:
    """Return what stands in the file before ``size`` bytes of content.

    Args:
        offset: where in the file the header begins; a field that no reader knows fills it up to the alignment.
    """
    tensor = b"".join(bytes([_DIMS << 3 | _VARINT]) + varint(dim) for dim in dims)
    tensor += _field(_TYPE, tensor_type.encode()) + bytes([_CONTENT << 3 | _BYTES]) + varint(size)
    tensor = bytes([_TENSOR << 3 | _BYTES]) + varint(len(tensor) + size) + tensor
    name = _field(_TAG, tag.encode())

    def padded(fill: int) -> bytes:
        value = name + _field(_PADDING, bytes(fill)) + tensor
        return bytes([_TAG << 3 | _BYTES]) + varint(len(value) + size) + value

    # The fill may itself lengthen the varint of the value's size, so a first guess is corrected once. A tensor for
    # which that misses too is not aligned, which readers allow for.
    fill = 0
    for _ in range(2):
        fill = (fill - (offset + len(padded(fill)))) % ALIGNMENT
    return padded(fill)


def entries(data: memoryview) -> Tuple[List[Entry], Optional[int]]:
    """Return the values of a checkpoint message and the CRC-32 behind it, if there is one.

    Args:
        data: the whole file, as bytes. Nothing outside it is read, whatever its lengths say.

    Raises:
        DamagedFileError: ``data`` is no such message, or ends too early.
    """
    end, crc = len(data), None
    trailer = len(CRC_MARK) + CRC_BYTES
    if end >= trailer and data[end - trailer : end - CRC_BYTES] == CRC_MARK:
        crc = int.from_bytes(data[end - CRC_BYTES :], "big")
        end -= trailer
    return [_value(data, start, stop) for number, start, stop in _fields(data, 0, end) if number == 1], crc


def _value(data: memoryview, start: int, end: int) -> Entry:
    tag, tensor = None, None
    for number, first, last in _fields(data, start, end):
        if number == _TAG:
            tag = _text(data, first, last)
        elif number == _TENSOR:
            tensor = (first, last)
        elif number == _MAP_TENSOR:
            raise DamagedFileError(f"byte {first}: a map parameter, expected tensors only")
    if tag is None or tensor is None:
        raise DamagedFileError(f"byte {start}: a value without tag or tensor")
    dims, tensor_type, content = [], None, None
    for number, first, last in _fields(data, *tensor):
        if number == _DIMS:
            dims.extend(_dims(data, first, last))
        elif number == _TYPE:
            tensor_type = _text(data, first, last)
        elif number == _CONTENT:
            content = (first, last)
    if tensor_type is None or content is None:
        raise DamagedFileError(f"tensor {tag!r} lacks its type or content")
    return Entry(tag, tensor_type, tuple(dims), *content)


def _dims(data: memoryview, start: int, end: int) -> Iterator[int]:
    """Yield the numbers of a dims field: one varint, or a packed row of them."""
    while start < end:
        value, start = _read_varint(data, start, end)
        if value > 2**31:
            raise DamagedFileError(f"byte {start}: a dimension of {value}")
        yield value


def _fields(data: memoryview, start: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """Yield (field number, start, end of the payload) of the message in ``data[start:end]``."""
    while start < end:
        key, first = _read_varint(data, start, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, last = _read_varint(data, first, end)
        elif kind == _BYTES:
            size, first = _read_varint(data, first, end)
            last = first + size
        elif kind in (_FIXED64, _FIXED32):
            last = first + (8 if kind == _FIXED64 else 4)
        else:
            raise DamagedFileError(f"byte {start}: wire type {kind}")
        if number == 0 or last > end:
            raise DamagedFileError(f"byte {start}: field {number} ends at byte {last}, its message ends at {end}")
        yield number, first, last
        start = last


def _read_varint(data: memoryview, start: int, end: int) -> Tuple[int, int]:
    """Return (value, offset behind it)."""
    value = 0
    for i in range(10):
        if start + i >= end:
            break
        byte = data[start + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, start + i + 1
    raise DamagedFileError(f"byte {start}: a number that does not end")


def _text(data: memoryview, start: int, end: int) -> str:
    try:
        return str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        raise DamagedFileError(f"byte {start}: text that is not UTF-8") from None
