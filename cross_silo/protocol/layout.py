"""A message with a whole model in it, laid out once: tensors are written in place and the buffer is sent as it is.

The builder makes the head with empty vectors; their references are then bent to vectors that follow the head,
which is what FlatBuffers' forward references allow.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, Iterable, Mapping, Sequence, Tuple

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from cross_silo.errors import UserError
from cross_silo.protocol.messages import build
from cross_silo.protocol.schema import MAX_MESSAGE_BYTES, SLOTS, TABLES, Kind

ALIGNMENT = 64
"""Bytes; tensors begin at multiples of it, a cache line."""
_FORMATS = {Kind.INT32: "<i", Kind.INT8: "<b", Kind.BOOL: "<?", Kind.FLOAT32: "<f"}
_FEATURES = "feature_map"


def aligned_bytes(size: int) -> np.ndarray:
    """Return ``size`` uninitialised bytes whose address is a multiple of :data:`ALIGNMENT`."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def largest_message(sizes: Mapping[str, int]) -> int:
    """Return the bytes that a sound message of anyone's making needs for tensors of ``sizes`` at most."""
    return sum(4 * size + len(name.encode()) + 256 for name, size in sizes.items()) + 65_536


class ModelMessage:
    """One reusable message of ``table`` that holds tensors in its ``feature_map``."""

    def __init__(self, table: str, sizes: Mapping[str, int], values: Mapping[str, Any]) -> None:
        """Lay the message out.

        Args:
            sizes: elements of each float32 tensor, in the order to store them.
            values: the other fields; those that change later must be given here, texts in their full length.

        Raises:
            UserError: the message would be larger than FlatBuffers allows.
        """
        head = _make_head(table, sizes, values)
        starts: Dict[str, int] = {}
        end = len(head)
        for name, size in sizes.items():
            end += -(end + 4) % ALIGNMENT
            starts[name] = end
            end += 4 + 4 * size
        if end > MAX_MESSAGE_BYTES:
            raise UserError(f"the model needs a message of {end} bytes, expected at most {MAX_MESSAGE_BYTES} (2 GiB)")
        self._table = table
        self._starts = starts
        self.tag = ""
        """What tells its content from another one's, where somebody has to."""
        self._root = Table(head, int.from_bytes(head[:4], "little"))
        _bend_references(self._root, table, head, starts)
        self._bytes = aligned_bytes(end)
        self._bytes[: len(head)] = np.frombuffer(head, np.uint8)
        self.buffer = memoryview(self._bytes)
        """The whole message."""
        self.tensors: Dict[str, np.ndarray] = {}
        """Flat float32 views of the message, by name."""
        previous = len(head)
        for name, size in sizes.items():
            start = starts[name]
            self._bytes[previous:start] = 0
            struct.pack_into("<I", self.buffer, start, size)
            previous = start + 4 + 4 * size
            self.tensors[name] = self._bytes[start + 4 : previous].view("<f4")

    def set(self, name: str, value: Any) -> None:
        """Change a number or a text in place; a text keeps its length in bytes.

        Raises:
            KeyError: the field was not given when the message was laid out.
            ValueError: a text of another length.
        """
        slot = SLOTS[self._table][name]
        kind = TABLES[self._table][slot].kind
        offset = self._root.Offset(4 + 2 * slot)
        if offset == 0:
            raise KeyError(name)
        position = self._root.Pos + offset
        if kind is not Kind.STRING:
            struct.pack_into(_FORMATS[kind], self.buffer, position, value)
            return
        start = self._root.Indirect(position)
        text, length = value.encode(), self._root.Get(number_types.UOffsetTFlags, start)
        if len(text) != length:
            raise ValueError(f"{name} is {value!r}, expected {length} bytes")
        self.buffer[start + 4 : start + 4 + length] = text

    def region(self, names: Sequence[str]) -> memoryview:
        """Return the bytes of tensors that lie side by side: the same for the same tensors in any message."""
        last = names[-1]
        return self.buffer[self._starts[names[0]] : self._starts[last] + 4 + self.tensors[last].nbytes]

    def part(self, names: Sequence[str], values: Mapping[str, Any]) -> Tuple[bytes, memoryview]:
        """Return a message of some of the tensors: its head, and their :meth:`region`, which follows it.

        Args:
            names: tensors that lie side by side.
            values: the other fields.
        """
        first = self._starts[names[0]]
        head = _make_head(self._table, {name: len(self.tensors[name]) for name in names}, values)
        head += bytes((first - len(head)) % ALIGNMENT)
        starts = {name: len(head) + self._starts[name] - first for name in names}
        _bend_references(Table(head, int.from_bytes(head[:4], "little")), self._table, head, starts)
        return bytes(head), self.region(names)


def _make_head(table: str, sizes: Iterable[str], values: Mapping[str, Any]) -> bytearray:
    """Build a message whose tensors are empty."""
    features = [{"weight_fullname": name, "data": np.empty(0, np.float32)} for name in sizes]
    builder = flatbuffers.Builder(256 + 96 * len(features))
    builder.Finish(build(builder, table, {**values, _FEATURES: features}))
    return bytearray(builder.Output())


def _bend_references(root: Table, table: str, head: bytearray, starts: Mapping[str, int]) -> None:
    """Let the ``data`` of each feature in ``head`` refer to its place in ``starts``, beyond the head."""
    offset = root.Offset(4 + 2 * SLOTS[table][_FEATURES])
    vector = root.Vector(offset)
    for i, start in enumerate(starts.values()):
        feature = Table(head, root.Indirect(vector + 4 * i))
        position = feature.Pos + feature.Offset(4 + 2 * SLOTS["FeatureMap"]["data"])
        struct.pack_into("<I", head, position, start - position)
