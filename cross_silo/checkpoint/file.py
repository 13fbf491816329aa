"""Reading and writing a checkpoint file: mapped, not read; gathered, not copied; never half-written."""

from __future__ import annotations

import mmap
import os
import threading
import zlib
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from cross_silo.checkpoint import bfloat16, wire
from cross_silo.checkpoint.info import CheckpointInfo
from cross_silo.checkpoint.replace import written_beside
from cross_silo.errors import UserError

INFO_TAG = "cross_silo.info"
"""Tag of the text that holds the :class:`CheckpointInfo`. To MindSpore it is what ``append_dict`` saves."""
MAX_BUFFERS = 1024
"""Buffers of one writev (IOV_MAX of Linux)."""

DTYPES = {
    "Bool": np.dtype(np.bool_),
    "Int8": np.dtype("<i1"),
    "Int16": np.dtype("<i2"),
    "Int32": np.dtype("<i4"),
    "Int64": np.dtype("<i8"),
    "UInt8": np.dtype("<u1"),
    "UInt16": np.dtype("<u2"),
    "UInt32": np.dtype("<u4"),
    "UInt64": np.dtype("<u8"),
    "Float16": np.dtype("<f2"),
    "Float32": np.dtype("<f4"),
    "Float64": np.dtype("<f8"),
}
"""MindSpore's names of the element types that numpy has."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_TEXT = "str"

Buffer = Union[bytes, memoryview]


class UnreadableCheckpointError(UserError):
    """A file that is missing, damaged or no checkpoint."""


def read_checkpoint(path: Union[str, os.PathLike]) -> Tuple[Dict[str, np.ndarray], CheckpointInfo]:
    """Return a checkpoint's tensors by name, shaped, and what the file says of itself.

    The arrays are read-only. Those of a file that :func:`write_checkpoint` made lie in the mapped file, so that
    memory is used only for what is touched. bfloat16 becomes float32. MindSpore's own files are read too: their
    info is empty, and texts and numbers of ``append_dict`` are left out or are tensors without dimensions.

    Raises:
        UnreadableCheckpointError: the file cannot be read, is no checkpoint, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise UnreadableCheckpointError(f"checkpoint {path} is empty (0 bytes)")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UnreadableCheckpointError(f"checkpoint {path}: {error.strerror}") from None
    try:
        entries, crc = wire.entries(data)
        trailer = 0 if crc is None else len(wire.CRC_MARK) + wire.CRC_BYTES
        if crc is not None and zlib.crc32(data[: len(data) - trailer]) != crc:
            raise wire.DamagedFileError("its CRC-32 does not agree with its content")
        return _tensors(data, entries)
    except wire.DamagedFileError as error:
        raise UnreadableCheckpointError(
            f"checkpoint {path} is damaged, encrypted or no MindSpore checkpoint: {error}"
        ) from None


def _tensors(data: memoryview, entries: Sequence[wire.Entry]) -> Tuple[Dict[str, np.ndarray], CheckpointInfo]:
    tensors: Dict[str, np.ndarray] = {}
    info = CheckpointInfo()
    first = 0
    while first < len(entries):
        entry = entries[first]
        last = first
        while last < len(entries) and entries[last].tag == entry.tag:
            last += 1
        parts = [np.frombuffer(data[part.start : part.end], np.uint8) for part in entries[first:last]]
        content = parts[0] if len(parts) == 1 else np.concatenate(parts)
        first = last
        if entry.tag in tensors:
            raise wire.DamagedFileError(f"tensor {entry.tag!r} stands there twice")
        if entry.tag == INFO_TAG:
            try:
                info = CheckpointInfo.from_json(content.tobytes().decode("utf-32-le"))
            except ValueError as error:
                raise wire.DamagedFileError(f"{INFO_TAG}: {error}") from None
        elif entry.tensor_type != _TEXT:
            tensors[entry.tag] = _tensor(entry, content)
    if not tensors:
        raise wire.DamagedFileError("it holds no tensor")
    missing = next((name for name in info.kinds if name not in tensors), None)
    if missing is not None:
        raise wire.DamagedFileError(f"tensor {missing!r} is missing")
    return tensors, info


def _tensor(entry: wire.Entry, content: np.ndarray) -> np.ndarray:
    """Return the bytes ``content`` as an aligned, shaped array."""
    half = entry.tensor_type == "BFloat16"
    dtype = DTYPES["UInt16"] if half else DTYPES.get(entry.tensor_type)
    if dtype is None:
        raise wire.DamagedFileError(f"tensor {entry.tag!r} has the unknown type {entry.tensor_type!r}")
    shape = entry.dims
    if shape == (0,) and content.nbytes == dtype.itemsize:
        shape = ()  # as older versions of MindSpore write a scalar
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if content.nbytes != expected:
        raise wire.DamagedFileError(
            f"tensor {entry.tag!r} has {content.nbytes} bytes, expected {expected} for {entry.tensor_type} {shape}"
        )
    if content.ctypes.data % dtype.itemsize:
        content = content.copy()
    array = content.view(dtype)
    if half:
        array = bfloat16.to_float32(array)
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def write_checkpoint(
    path: Union[str, os.PathLike],
    weights: Mapping[str, np.ndarray],
    info: CheckpointInfo,
    shapes: Optional[Mapping[str, Sequence[int]]] = None,
    durable: bool = True,
) -> int:
    """Write a checkpoint beside ``path`` and rename it into place; return its size in bytes.

    ``mindspore.load_checkpoint`` reads the file, with ``crc_check`` too.

    Args:
        weights: tensors by name. Contiguous ones are written from where they are, without a copy.
        shapes: shapes of the tensors where ``weights`` holds flat views.
        durable: return only once file and name are on the disk itself.

    Raises:
        ValueError: a tensor's element type has no MindSpore name, or its size is not that of its shape.
        OSError: the disk refuses; ``path`` is as it was before.
    """
    buffers = _layout(weights, info, shapes or {})
    with written_beside(path, durable) as descriptor:
        return _write(descriptor, buffers)


def _layout(
    weights: Mapping[str, np.ndarray], info: CheckpointInfo, shapes: Mapping[str, Sequence[int]]
) -> List[Buffer]:
    """Return the file's content before the CRC, in order: headers and the tensors' own memory."""
    buffers: List[Buffer] = []
    offset = 0

    def add(tag: str, kind: str, dims: Sequence[int], content: memoryview) -> None:
        nonlocal offset
        slice_bytes = len(content) if kind == _TEXT else wire.SLICE_BYTES  # MindSpore cannot join a text's parts
        for start in range(0, max(len(content), 1), slice_bytes):
            part = content[start : start + slice_bytes]
            head = wire.header(tag, kind, dims, len(part), offset)
            buffers.extend((head, part) if len(part) else (head,))
            offset += len(head) + len(part)

    add(INFO_TAG, _TEXT, [0], memoryview(info.to_json().encode("utf-32-le")))
    for name, tensor in weights.items():
        shape = tuple(int(size) for size in shapes.get(name, tensor.shape))
        if tensor.dtype not in _NAMES:
            raise ValueError(f"tensor {name!r} is {tensor.dtype}, expected one of {', '.join(DTYPES)}")
        if np.prod(shape, dtype=np.int64) != tensor.size:
            raise ValueError(f"tensor {name!r} has {tensor.size} values, expected {shape}")
        flat = np.ascontiguousarray(tensor).reshape(-1)
        add(name, _NAMES[tensor.dtype], shape, memoryview(flat.view(np.uint8)))
    return buffers


def _write(descriptor: int, buffers: Sequence[Buffer]) -> int:
    """Write ``buffers`` and their CRC-32, which a thread computes meanwhile; return the bytes written."""
    checksum = _Crc(buffers)
    size = write_all(descriptor, buffers)
    trailer = wire.CRC_MARK + checksum.result().to_bytes(wire.CRC_BYTES, "big")
    return size + write_all(descriptor, [trailer])


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> int:
    """Write ``buffers``, none of them empty, from where they are, also after a short write; return the bytes."""
    size = 0
    for start in range(0, len(buffers), MAX_BUFFERS):
        pending = [memoryview(buffer) for buffer in buffers[start : start + MAX_BUFFERS]]
        while pending:
            written = os.writev(descriptor, pending)
            size += written
            while pending and written >= len(pending[0]):
                written -= len(pending.pop(0))
            if written:
                pending[0] = pending[0][written:]
    return size


class _Crc:
    """CRC-32 of buffers in a thread; zlib gives up the interpreter's lock meanwhile."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        self._value = 0
        self._thread = threading.Thread(target=self._run, args=(buffers,), name="checkpoint-crc")
        self._thread.start()

    def _run(self, buffers: Sequence[Buffer]) -> None:
        value = 0
        for buffer in buffers:
            value = zlib.crc32(buffer, value)
        self._value = value

    def result(self) -> int:
        """Wait for the thread."""
        self._thread.join()
        return self._value
