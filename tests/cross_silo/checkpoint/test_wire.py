"""The message, checked against the protocol-buffer class of MindSpore itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore.train.checkpoint_pb2 import Checkpoint

from cross_silo.checkpoint import wire


@given(st.integers(0, 2**63 - 1))
def test_varint_is_read_back(value):
    encoded = wire.varint(value)
    assert wire._read_varint(memoryview(encoded), 0, len(encoded)) == (value, len(encoded))


@pytest.mark.parametrize("value, encoded", [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varint_by_the_specification(value, encoded):
    assert wire.varint(value) == encoded


@given(
    tag=st.text(max_size=200),
    dims=st.lists(st.integers(0, 70000), max_size=5),
    content=st.binary(max_size=300),
    offset=st.integers(0, 200),
)
@settings(max_examples=200, deadline=None)
def test_header_and_content_are_what_protobuf_reads(tag, dims, content, offset):
    value = wire.header(tag, "Float32", dims, len(content), offset) + content
    message = Checkpoint.FromString(value)
    assert [(v.tag, v.tensor.tensor_type, list(v.tensor.dims), v.tensor.tensor_content) for v in message.value] == [
        (tag, "Float32", dims, content)
    ]


def test_contents_are_aligned():
    offset = aligned = 0
    for size in range(0, 20000, 37):
        offset += len(wire.header("backbone.conv1.weight", "Float32", [size], size, offset))
        aligned += offset % wire.ALIGNMENT == 0
        offset += size
    assert aligned >= 0.98 * len(range(0, 20000, 37))  # the rest sit where a length needs one more byte


def test_entries_of_a_message_by_protobuf():
    message = Checkpoint()
    for name, shape in (("a", [2, 3]), ("b", [])):
        value = message.value.add()
        value.tag = name
        value.tensor.dims.extend(shape)
        value.tensor.tensor_type = "Float32"
        value.tensor.tensor_content = bytes(4 * int(np.prod(shape)))
    data = message.SerializeToString()
    found, crc = wire.entries(memoryview(data))
    assert crc is None
    assert [(e.tag, e.tensor_type, e.dims, e.end - e.start) for e in found] == [
        ("a", "Float32", (2, 3), 24),
        ("b", "Float32", (), 4),
    ]


def test_packed_dims_and_unknown_fields_are_read():
    tensor = b"\x0a\x02\x02\x03" + b"\x12\x07Float32" + b"\x1a\x00" + b"\x25abcd" + b"\x29abcdefgh" + b"\x38\x05"
    value = b"\x0a\x01a" + b"\x12" + wire.varint(len(tensor)) + tensor
    found, _ = wire.entries(memoryview(b"\x0a" + wire.varint(len(value)) + value))
    assert found[0].dims == (2, 3)


VALID = b"".join(
    head + b"\0" * 8 for head in (wire.header("name", "Float32", [2], 8, 0), wire.header("n2", "Float32", [2], 8, 72))
)


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.data())
@settings(max_examples=1500, deadline=None)
def test_no_damage_reads_outside_the_message(changes, data):
    damaged = bytearray(VALID)
    for place, value in changes:
        damaged[place] = value
    size = data.draw(st.integers(0, len(damaged)))
    try:
        found, _ = wire.entries(memoryview(bytes(damaged[:size])))
    except wire.DamagedFileError:
        return
    assert all(0 <= entry.start <= entry.end <= size for entry in found)


@pytest.mark.parametrize(
    "data, reason",
    [
        (VALID[:-1], "its message ends at"),
        (b"\x0a", "does not end"),
        (b"\x0a" + b"\xff" * 11, "does not end"),
        (b"\x0b", "wire type"),
        (b"\x02\x00", "field 0"),
        (b"\x0a\x00", "without tag"),
        (b"\x0a\x03\x0a\x01\xff", "UTF-8"),
        (b"\x0a\x05\x0a\x01a\x1a\x00", "map parameter"),
        (b"\x0a\x05\x0a\x01a\x12\x00", "lacks its type"),
    ],
)
def test_damage_is_named(data, reason):
    with pytest.raises(wire.DamagedFileError, match=reason):
        wire.entries(memoryview(data))
