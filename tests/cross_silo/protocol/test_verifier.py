"""The verifier: sound messages pass, and no mutated one makes a read leave the buffer."""

import struct

import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.verifier import InvalidMessageError, Limits, verify

FEATURES = [
    {"weight_fullname": "backbone.conv1.weight", "data": np.arange(12, dtype=np.float32)},
    {"weight_fullname": "head.bias", "data": np.arange(3, dtype=np.float32)},
]
UPLOAD = encode(
    "RequestUpdateModel",
    {"fl_name": "job", "fl_id": "silo_0", "iteration": 3, "timestamp": "1", "feature_map": FEATURES,
     "name_vec": ["one", "two"], "upload_loss": 0.25, "signature": np.arange(9, dtype=np.uint8),
     "unsupervised_eval_items": {"eval_items": [{"eval_name": "x", "eval_data": np.ones(4, np.float32)}]}},
)  # fmt: skip


class Guarded(bytes):
    """Bytes that refuse any access outside of themselves."""

    def __getitem__(self, key):
        if isinstance(key, slice):
            assert 0 <= (key.start or 0) <= key.stop <= len(self), key
        else:
            assert 0 <= key < len(self), key
        return bytes.__getitem__(self, key)


def consume(buffer: bytes) -> bool:
    """Decode and touch everything; False where the verifier refuses. Any other exception fails the test."""
    try:
        message = decode(buffer, "RequestUpdateModel", Limits(tables=50, strings=50, text_bytes=10_000))
    except InvalidMessageError:
        return False
    start = np.frombuffer(buffer, np.uint8).ctypes.data
    for feature in message["feature_map"] or ():
        if feature["data"] is not None and len(feature["data"]):
            first = feature["data"].ctypes.data - start
            assert first >= 0 and first + feature["data"].nbytes <= len(buffer)
            float(feature["data"].sum())
    return True


def test_sound_message_passes():
    verify(UPLOAD, "RequestUpdateModel")
    assert consume(UPLOAD)


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(UPLOAD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes(changes):
    mutated = bytearray(UPLOAD)
    for position, value in changes:
        mutated[position] = value
    with np.errstate(all="ignore"):
        consume(Guarded(mutated))


@settings(max_examples=3000, deadline=None)
@given(st.integers(0, len(UPLOAD) // 4 - 1), st.one_of(st.integers(0, 2**32 - 1), st.integers(0, len(UPLOAD) + 8)))
def test_changed_offsets(word, value):
    mutated = bytearray(UPLOAD)
    struct.pack_into("<I", mutated, 4 * word, value)
    with np.errstate(all="ignore"):
        consume(Guarded(mutated))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(content):
    consume(Guarded(content))


@pytest.mark.parametrize("length", range(len(UPLOAD)))
def test_every_truncation_is_refused(length):
    assert not consume(UPLOAD[:length])


def repeated(count: int) -> bytes:
    """A message whose ``count`` features are all one and the same table."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(1)
    inner = builder.EndObject()
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(inner)
    vector = builder.EndVector()
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_one_table_referred_to_often_counts_as_often():
    verify(repeated(63), "RequestUpdateModel", Limits(tables=64))
    with pytest.raises(InvalidMessageError, match="more than 64 tables"):
        verify(repeated(64), "RequestUpdateModel", Limits(tables=64))


def test_depth_is_bounded():
    with pytest.raises(InvalidMessageError, match="nested deeper than 2"):
        verify(UPLOAD, "RequestUpdateModel", Limits(depth=2))


def test_text_is_bounded():
    body = encode("RequestFLJob", {"fl_id": "x" * 100})
    with pytest.raises(InvalidMessageError, match="text of 100 bytes"):
        verify(body, "RequestFLJob", Limits(string_bytes=99))
    with pytest.raises(InvalidMessageError, match="text of 100 bytes"):
        verify(body, "RequestFLJob", Limits(text_bytes=99))


def test_strings_are_counted():
    body = encode("RequestUpdateModel", {"name_vec": ["a"] * 10})
    with pytest.raises(InvalidMessageError, match="more than 9 strings"):
        verify(body, "RequestUpdateModel", Limits(strings=9))


def test_text_that_is_not_utf8():
    body = bytearray(encode("RequestFLJob", {"fl_id": "abcd"}))
    body[body.index(b"abcd")] = 0xFF
    with pytest.raises(InvalidMessageError, match="not UTF-8"):
        verify(body, "RequestFLJob")


def test_text_without_end():
    body = bytearray(encode("RequestFLJob", {"fl_id": "abcd"}))
    body[body.index(b"abcd") + 4] = 1
    with pytest.raises(InvalidMessageError, match="does not end in a zero byte"):
        verify(body, "RequestFLJob")
