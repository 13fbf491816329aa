"""Bounds every offset, length, depth and count of a received FlatBuffers message before anything reads it.

The Python package has no verifier; rules as in FlatBuffers' "Binary format" document: a table points back to its
vtable, fields are found by the vtable's 16-bit offsets, references are unsigned 32-bit and point forward.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Union

from cross_silo.protocol.schema import ELEMENT_BYTES, INLINE_BYTES, MAX_MESSAGE_BYTES, TABLES, Field, Kind

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")


class InvalidMessageError(ValueError):
    """The bytes are not a well-formed message of the expected table, or exceed a limit."""


@dataclass(frozen=True)
class Limits:
    """What a message may ask of its reader, however well formed."""

    depth: int = 8
    """Tables within tables."""
    tables: int = 100_000
    """Tables in all, each visit counted: several references to one table cost as many."""
    strings: int = 100_000
    """Strings in all, each visit counted."""
    string_bytes: int = 65_536
    """Bytes of one string."""
    text_bytes: int = 16 * 2**20
    """Bytes of all strings, each visit counted."""


def verify(buffer: Union[bytes, bytearray, memoryview], table: str, limits: Limits = Limits()) -> None:  # noqa: B008
    """Check that ``buffer`` holds a message whose root is ``table``. Raises InvalidMessageError."""
    _Verifier(buffer, limits).root(table)


class _Verifier:
    def __init__(self, buffer: Union[bytes, bytearray, memoryview], limits: Limits) -> None:
        self._buffer = memoryview(buffer).cast("B") if not isinstance(buffer, bytes) else buffer
        self._size = len(buffer)
        self._limits = limits
        self._tables = 0
        self._strings = 0
        self._text_bytes = 0

    def root(self, table: str) -> None:
        if not 8 <= self._size <= MAX_MESSAGE_BYTES:
            raise InvalidMessageError(f"message of {self._size} bytes, expected 8 to {MAX_MESSAGE_BYTES}")
        self._table(self._target(0, f"root {table}"), table, 1)

    def _target(self, position: int, what: str) -> int:
        """Return where the reference at ``position`` (inside the buffer) leads; at least 4 bytes are there."""
        target = position + _U32.unpack_from(self._buffer, position)[0]
        if target == position or target > self._size - 4 or target % 4:
            raise InvalidMessageError(f"{what}: reference at {position} leads to {target} of {self._size} bytes")
        return target

    def _table(self, position: int, table: str, depth: int) -> None:
        self._tables += 1
        if self._tables > self._limits.tables:
            raise InvalidMessageError(f"more than {self._limits.tables} tables")
        if depth > self._limits.depth:
            raise InvalidMessageError(f"{table}: tables nested deeper than {self._limits.depth}")
        vtable = position - _I32.unpack_from(self._buffer, position)[0]
        if not 0 <= vtable <= self._size - 4 or vtable % 2:
            raise InvalidMessageError(f"{table}: vtable at {vtable} of {self._size} bytes")
        vtable_bytes = _U16.unpack_from(self._buffer, vtable)[0]
        table_bytes = _U16.unpack_from(self._buffer, vtable + 2)[0]
        if vtable_bytes < 4 or vtable_bytes % 2 or vtable + vtable_bytes > self._size:
            raise InvalidMessageError(f"{table}: vtable of {vtable_bytes} bytes at {vtable}")
        if table_bytes < 4 or position + table_bytes > self._size:
            raise InvalidMessageError(f"{table}: table of {table_bytes} bytes at {position}")
        for slot, field in enumerate(TABLES[table]):
            if 4 + 2 * slot >= vtable_bytes:
                break
            offset = _U16.unpack_from(self._buffer, vtable + 4 + 2 * slot)[0]
            if offset == 0:
                continue
            size = INLINE_BYTES.get(field.kind, 4)
            if offset < 4 or offset + size > table_bytes or (position + offset) % size:
                raise InvalidMessageError(f"{table}.{field.name}: {size} bytes at {offset} of {table_bytes}")
            if field.kind not in INLINE_BYTES:
                what = f"{table}.{field.name}"
                self._referred(self._target(position + offset, what), field, what, depth)

    def _referred(self, target: int, field: Field, what: str, depth: int) -> None:
        if field.kind is Kind.TABLE:
            self._table(target, field.table, depth + 1)
        elif field.kind is Kind.STRING:
            self._string(target, what)
        else:
            count = self._vector(target, ELEMENT_BYTES.get(field.kind, 4), what)
            if field.kind is Kind.TABLES:
                for item in range(target + 4, target + 4 + 4 * count, 4):
                    self._table(self._target(item, what), field.table, depth + 1)
            elif field.kind is Kind.STRINGS:
                for item in range(target + 4, target + 4 + 4 * count, 4):
                    self._string(self._target(item, what), what)

    def _vector(self, target: int, element_bytes: int, what: str) -> int:
        count = _U32.unpack_from(self._buffer, target)[0]
        if target + 4 + count * element_bytes > self._size:
            raise InvalidMessageError(f"{what}: {count} elements at {target} of {self._size} bytes")
        return count

    def _string(self, target: int, what: str) -> None:
        length = self._vector(target, 1, what)
        end = target + 4 + length
        self._strings += 1
        self._text_bytes += length
        if length > self._limits.string_bytes or self._text_bytes > self._limits.text_bytes:
            raise InvalidMessageError(f"{what}: text of {length} bytes")
        if self._strings > self._limits.strings:
            raise InvalidMessageError(f"more than {self._limits.strings} strings")
        if end >= self._size or self._buffer[end] != 0:
            raise InvalidMessageError(f"{what}: text at {target} does not end in a zero byte")
        try:
            str(self._buffer[target + 4 : end], "utf-8")
        except UnicodeDecodeError:
            raise InvalidMessageError(f"{what}: text at {target} is not UTF-8") from None
