"""The codec against messages that the flatbuffers package's builder makes and reads field by field."""

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.schema import SLOTS, TABLES, Kind
from cross_silo.protocol.verifier import InvalidMessageError


def by_hand_request() -> bytes:
    """A RequestUpdateModel as generated code would build it: only builder calls with literal slots."""
    builder = flatbuffers.Builder(0)
    features = []
    for name, values in (("conv.weight", [1.5, -2.0, 0.25]), ("fc.bias", [7.0])):
        text = builder.CreateString(name)
        data = builder.CreateNumpyVector(np.array(values, np.float32))
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUOffsetTRelativeSlot(1, data, 0)
        features.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for feature in reversed(features):
        builder.PrependUOffsetTRelative(feature)
    vector = builder.EndVector()
    fl_id, timestamp = builder.CreateString("silo_é"), builder.CreateString("123")
    builder.StartObject(15)
    builder.PrependUOffsetTRelativeSlot(1, fl_id, 0)
    builder.PrependInt32Slot(2, 17, 0)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    builder.PrependUOffsetTRelativeSlot(4, timestamp, 0)
    builder.PrependFloat32Slot(6, 0.5, 0.0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_reads_what_the_plain_builder_made():
    message = decode(by_hand_request(), "RequestUpdateModel")

    assert message["fl_id"] == "silo_é"
    assert message["iteration"] == 17
    assert message["upload_loss"] == 0.5
    assert message["fl_name"] is None
    assert message["upload_compress_type"] == 0
    names = [feature["weight_fullname"] for feature in message["feature_map"]]
    assert names == ["conv.weight", "fc.bias"]
    np.testing.assert_array_equal(message["feature_map"][0]["data"], np.float32([1.5, -2.0, 0.25]))


def test_plain_table_reads_what_encode_made():
    plan = {"server_mode": "CLOUD_TRAINING", "epochs": 3, "lr": 0.125, "shuffle": True}
    body = encode("ResponseFLJob", {"retcode": 200, "reason": "fine", "is_selected": True, "fl_plan_config": plan})

    root = Table(bytearray(body), int.from_bytes(body[:4], "little"))
    assert root.Get(number_types.Int32Flags, root.Pos + root.Offset(4)) == 200
    assert root.String(root.Pos + root.Offset(6)) == b"fine"
    assert root.Get(number_types.BoolFlags, root.Pos + root.Offset(4 + 2 * 3))
    inner = Table(root.Bytes, root.Indirect(root.Pos + root.Offset(4 + 2 * 5)))
    assert inner.String(inner.Pos + inner.Offset(4)) == b"CLOUD_TRAINING"
    assert inner.Get(number_types.Int32Flags, inner.Pos + inner.Offset(4 + 2 * 3)) == 3
    assert inner.Get(number_types.Float32Flags, inner.Pos + inner.Offset(4 + 2 * 7)) == 0.125


def sample(table: str, depth: int = 0):
    """A message with every field set."""
    values = {
        Kind.INT32: -5,
        Kind.INT8: 2,
        Kind.BOOL: True,
        Kind.FLOAT32: 0.75,
        Kind.STRING: "text",
        Kind.BYTES: np.array([1, 255], np.uint8),
        Kind.INT8S: np.array([-1, 1], np.int8),
        Kind.INT32S: np.array([9, -9], np.int32),
        Kind.FLOATS: np.array([0.5, np.inf], np.float32),
        Kind.STRINGS: ["a", ""],
    }
    message = {}
    for field in TABLES[table]:
        if field.kind is Kind.TABLE:
            message[field.name] = sample(field.table)
        elif field.kind is Kind.TABLES:
            message[field.name] = [sample(field.table), sample(field.table)]
        else:
            message[field.name] = values[field.kind]
    return message


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_field_of_every_table_survives(table):
    assert_same(decode(encode(table, sample(table)), table), sample(table))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES = {
    Kind.INT32: st.integers(-(2**31), 2**31 - 1),
    Kind.INT8: st.integers(-128, 127),
    Kind.BOOL: st.booleans(),
    Kind.FLOAT32: st.floats(width=32),
    Kind.STRING: TEXTS,
    Kind.BYTES: arrays.arrays(np.uint8, st.integers(0, 20)),
    Kind.INT8S: arrays.arrays(np.int8, st.integers(0, 20)),
    Kind.INT32S: arrays.arrays(np.int32, st.integers(0, 20)),
    Kind.FLOATS: arrays.arrays(np.float32, st.integers(0, 20)),
    Kind.STRINGS: st.lists(TEXTS, max_size=4),
}


def messages(table):
    """Any message of ``table``: any of its fields, with any values."""
    fields = {}
    for field in TABLES[table]:
        if field.kind is Kind.TABLE:
            fields[field.name] = st.deferred(lambda field=field: messages(field.table))
        elif field.kind is Kind.TABLES:
            fields[field.name] = st.lists(st.deferred(lambda field=field: messages(field.table)), max_size=3)
        else:
            fields[field.name] = VALUES[field.kind]
    return st.fixed_dictionaries({}, optional=fields)


def with_absent(table, message):
    """What a reader finds of ``message``: also the fields that it does not have, None or 0."""
    full = {}
    for field in TABLES[table]:
        value = message.get(field.name)
        if value is None:
            value = 0 if field.kind in (Kind.INT32, Kind.INT8, Kind.BOOL, Kind.FLOAT32) else None
        elif field.kind is Kind.TABLE:
            value = with_absent(field.table, value)
        elif field.kind is Kind.TABLES:
            value = [with_absent(field.table, item) for item in value]
        full[field.name] = value
    return full


@pytest.mark.parametrize("table", sorted(TABLES))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_message_is_read_back(table, data):
    message = data.draw(messages(table))
    assert_same(decode(encode(table, message), table), with_absent(table, message))


@pytest.mark.parametrize("table", sorted(TABLES))
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_message_of_another_table_or_with_other_bytes_is_read_or_refused(table, data):
    """Nothing but a refusal by name is raised, whatever was sent."""
    body = bytearray(encode(table, data.draw(messages(table))))
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=4)):
        body[place] = value
    end = data.draw(st.integers(max(len(body) - 8, 0), len(body)))
    try:
        decode(bytes(body[:end]), data.draw(st.sampled_from(sorted(TABLES))))
    except InvalidMessageError:
        pass


def test_unknown_field_is_refused():
    with pytest.raises(KeyError, match="no field 'itration'"):
        encode("RequestGetModel", {"itration": 1})


def test_slots_are_those_of_the_engine():
    """Spot checks of places that a wrong order would move."""
    assert SLOTS["RequestFLJob"]["data_size"] == 3
    assert SLOTS["RequestUpdateModel"]["feature_map"] == 3
    assert SLOTS["RequestUpdateModel"]["upload_accuracy"] == 13
    assert SLOTS["ResponseGetModel"]["feature_map"] == 3
    assert SLOTS["ResponseFLJob"]["upload_sparse_rate"] == 9
