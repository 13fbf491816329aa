"""A message with a model, laid out in place, against the plain reader and the codec."""

import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.errors import UserError
from cross_silo.protocol import layout
from cross_silo.protocol.layout import ALIGNMENT, ModelMessage, aligned_bytes, largest_message
from cross_silo.protocol.messages import decode, encode

SIZES = {"conv.weight": 36, "bn.moving_mean": 4, "scalar": 1, "empty": 0, "fc.weight": 1001}


@pytest.fixture
def message() -> ModelMessage:
    made = ModelMessage(
        "ResponseGetModel", SIZES, {"retcode": 200, "reason": "", "iteration": 0, "timestamp": "0" * 13}
    )
    for i, view in enumerate(made.tensors.values()):
        view[:] = np.arange(len(view), dtype=np.float32) + 1000 * i
    return made


def test_codec_reads_it(message):
    message.set("iteration", 41)
    message.set("timestamp", "1700000000000")
    found = decode(message.buffer, "ResponseGetModel")
    assert (found["retcode"], found["iteration"], found["timestamp"]) == (200, 41, "1700000000000")
    assert [feature["weight_fullname"] for feature in found["feature_map"]] == list(SIZES)
    for feature in found["feature_map"]:
        np.testing.assert_array_equal(feature["data"], message.tensors[feature["weight_fullname"]])


def test_plain_table_reads_it(message):
    """As generated code would: absolute positions from the buffer's own offsets alone."""
    body = bytes(message.buffer)
    root = Table(body, int.from_bytes(body[:4], "little"))
    offset = root.Offset(4 + 2 * 3)
    assert root.VectorLen(offset) == len(SIZES)
    for i, (name, size) in enumerate(SIZES.items()):
        feature = Table(body, root.Indirect(root.Vector(offset) + 4 * i))
        assert feature.String(feature.Pos + feature.Offset(4)) == name.encode()
        data = feature.Offset(6)
        assert feature.VectorLen(data) == size
        found = feature.GetVectorAsNumpy(number_types.Float32Flags, data)
        np.testing.assert_array_equal(found, message.tensors[name])


def test_tensors_are_aligned(message):
    assert all(view.ctypes.data % ALIGNMENT == 0 for view in message.tensors.values())
    assert aligned_bytes(1).ctypes.data % ALIGNMENT == 0


def test_largest_message_covers_ours_and_the_plain_builders(message):
    limit = largest_message(SIZES)
    features = [{"weight_fullname": name, "data": np.zeros(size, np.float32)} for name, size in SIZES.items()]
    built = encode("RequestUpdateModel", {"fl_name": "n", "fl_id": "s", "timestamp": "0", "feature_map": features})
    assert len(message.buffer) <= limit and len(built) <= limit


def test_fields_that_change_must_be_given(message):
    with pytest.raises(KeyError, match="download_compress_type"):
        message.set("download_compress_type", 1)
    with pytest.raises(ValueError, match="expected 13 bytes"):
        message.set("timestamp", "1")


def test_two_gigabytes_are_refused(monkeypatch):
    monkeypatch.setattr(layout, "MAX_MESSAGE_BYTES", 2000)
    with pytest.raises(UserError, match="expected at most 2000"):
        ModelMessage("ResponseGetModel", SIZES, {"retcode": 200})


def test_a_model_over_two_gigabytes_takes_no_memory():
    with pytest.raises(UserError, match="2 GiB"):
        ModelMessage("ResponseGetModel", {"huge": 2**29}, {"retcode": 200})


def test_empty_model():
    made = ModelMessage("ResponseGetModel", {}, {"retcode": 200})
    assert decode(made.buffer, "ResponseGetModel")["feature_map"] == []


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=30), st.integers(0, 70), max_size=6),
    loss=st.floats(width=32, allow_nan=False),
    iteration=st.integers(-(2**31), 2**31 - 1),
)
def test_any_names_and_sizes_survive(sizes, loss, iteration):
    made = ModelMessage("RequestUpdateModel", sizes, {"fl_id": "silo", "iteration": 0, "upload_loss": 0.0})
    made.set("iteration", iteration)
    made.set("upload_loss", loss)
    for i, view in enumerate(made.tensors.values()):
        view[:] = np.arange(len(view)) - i
    found = decode(made.buffer, "RequestUpdateModel")
    assert (found["fl_id"], found["iteration"], found["upload_loss"]) == ("silo", iteration, loss)
    assert [feature["weight_fullname"] for feature in found["feature_map"]] == list(sizes)
    for i, feature in enumerate(found["feature_map"]):
        np.testing.assert_array_equal(feature["data"], np.arange(sizes[feature["weight_fullname"]]) - i)
        assert feature["data"].ctypes.data % ALIGNMENT == 0 or not len(feature["data"])
    assert len(made.buffer) <= largest_message(sizes)


def test_a_part_is_a_message_of_its_own_in_the_memory_of_the_whole():
    sizes = {"a": 3, "bb": 70, "ccc": 1, "d": 5}
    values = {"retcode": 200, "reason": "", "iteration": 4, "timestamp": "0" * 13}
    whole = ModelMessage("ResponseGetModel", sizes, values)
    for index, tensor in enumerate(whole.tensors.values()):
        tensor[:] = np.arange(len(tensor)) + index
    for names in (["bb", "ccc"], ["a"], ["d"], list(sizes)):
        head, region = whole.part(names, {**values, "iteration": 5})
        message = decode(head + bytes(region), "ResponseGetModel")
        assert message["iteration"] == 5
        assert [feature["weight_fullname"] for feature in message["feature_map"]] == names
        for feature in message["feature_map"]:
            np.testing.assert_array_equal(feature["data"], whole.tensors[feature["weight_fullname"]])
        alone = ModelMessage("RequestUpdateModel", {name: sizes[name] for name in names}, {"fl_id": "x"})
        assert len(alone.region(names)) == len(region)
        alone.region(names)[:] = region
        for name in names:
            np.testing.assert_array_equal(alone.tensors[name], whole.tensors[name])
