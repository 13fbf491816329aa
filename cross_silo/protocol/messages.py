"""Messages as Python mappings: read from verified FlatBuffers bytes, and built for small ones."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Union

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from cross_silo.protocol.schema import TABLES, Field, Kind
from cross_silo.protocol.verifier import Limits, verify

Message = Dict[str, Any]
"""Field name to value: numbers, text, numpy views of the buffer, messages, lists. An absent reference is None,
an absent number 0, as FlatBuffers has it."""

_FLAGS = {
    Kind.INT32: number_types.Int32Flags,
    Kind.INT8: number_types.Int8Flags,
    Kind.BOOL: number_types.BoolFlags,
    Kind.FLOAT32: number_types.Float32Flags,
    Kind.BYTES: number_types.Uint8Flags,
    Kind.INT8S: number_types.Int8Flags,
    Kind.INT32S: number_types.Int32Flags,
    Kind.FLOATS: number_types.Float32Flags,
}
_DTYPES = {Kind.BYTES: "<u1", Kind.INT8S: "<i1", Kind.INT32S: "<i4", Kind.FLOATS: "<f4"}


def decode(
    buffer: Union[bytes, bytearray, memoryview],
    table: str,
    limits: Limits = Limits(),  # noqa: B008
) -> Message:
    """Verify ``buffer`` as a message of ``table`` and return its content; vectors of numbers stay in the buffer.

    Raises:
        InvalidMessageError: the bytes are no such message.
    """
    verify(buffer, table, limits)
    position = int.from_bytes(buffer[:4], "little")
    return _read(Table(buffer, position), table)


def _read(at: Table, table: str) -> Message:
    message: Message = {}
    for slot, field in enumerate(TABLES[table]):
        offset = at.Offset(4 + 2 * slot)
        if field.kind in (Kind.INT32, Kind.INT8, Kind.BOOL, Kind.FLOAT32):
            message[field.name] = at.Get(_FLAGS[field.kind], at.Pos + offset) if offset else 0
        else:
            message[field.name] = _read_reference(at, offset, field) if offset else None
    return message


def _read_reference(at: Table, offset: int, field: Field) -> Any:
    if field.kind is Kind.STRING:
        return str(at.String(at.Pos + offset), "utf-8")
    if field.kind is Kind.TABLE:
        return _read(Table(at.Bytes, at.Indirect(at.Pos + offset)), field.table)
    count, start = at.VectorLen(offset), at.Vector(offset)
    if field.kind is Kind.TABLES:
        return [_read(Table(at.Bytes, at.Indirect(start + 4 * i)), field.table) for i in range(count)]
    if field.kind is Kind.STRINGS:
        return [str(at.String(start + 4 * i), "utf-8") for i in range(count)]
    return np.frombuffer(at.Bytes, _DTYPES[field.kind], count, start)


def encode(table: str, values: Mapping[str, Any]) -> bytes:
    """Build a small message of ``table``; fields that are missing or None are left out.

    Raises:
        KeyError: a field that the table does not have.
    """
    builder = flatbuffers.Builder(256)
    builder.Finish(build(builder, table, values))
    return bytes(builder.Output())


def build(builder: flatbuffers.Builder, table: str, values: Mapping[str, Any]) -> int:
    """Add a message of ``table`` to ``builder`` and return its offset there. Numbers are stored even where 0."""
    fields = {field.name: (slot, field) for slot, field in enumerate(TABLES[table])}
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise KeyError(f"{table} has no field {unknown[0]!r}")
    given = [(*fields[name], value) for name, value in values.items() if value is not None]
    offsets = {slot: _build_reference(builder, field, value) for slot, field, value in given if field.kind not in _FLAT}
    builder.StartObject(len(fields))
    for slot, field, value in given:
        if slot in offsets:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
        else:
            builder.Prepend(_FLAGS[field.kind], value)
            builder.Slot(slot)
    return builder.EndObject()


_FLAT = (Kind.INT32, Kind.INT8, Kind.BOOL, Kind.FLOAT32)


def _build_reference(builder: flatbuffers.Builder, field: Field, value: Any) -> int:
    if field.kind is Kind.STRING:
        return builder.CreateString(value)
    if field.kind is Kind.TABLE:
        return build(builder, field.table, value)
    if field.kind in _DTYPES:
        return builder.CreateNumpyVector(np.ascontiguousarray(value, _DTYPES[field.kind]))
    if field.kind is Kind.STRINGS:
        offsets = [builder.CreateString(item) for item in value]
    else:
        offsets = [build(builder, field.table, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
