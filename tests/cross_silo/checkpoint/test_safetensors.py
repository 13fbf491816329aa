"""The safetensors format, by its specification."""

import json

import numpy as np
import pytest

from cross_silo.checkpoint import safetensors
from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.safetensors import is_safetensors, read_safetensors, write_safetensors


def layout(header, content=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + content


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_reads_what_the_specification_says(tmp_path):
    a, b = np.float32([1.5, -2, 3]), np.int64([[1], [2]])
    header = {"__metadata__": {"format": "pt"}, "b": entry("I64", (2, 1), (12, 28)), "a": entry("F32", (3,), (0, 12))}
    (tmp_path / "a.safetensors").write_bytes(layout(header, a.tobytes() + b.tobytes()))
    tensors, metadata = read_safetensors(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["a"], a)
    np.testing.assert_array_equal(tensors["b"], b)
    assert metadata == {"format": "pt"} and not tensors["a"].flags.writeable


def test_half_precision_becomes_float32_exactly(tmp_path):
    half, brain, flags = np.float16([1.5, -65504]), np.uint16([0x3FC0, 0xC000]), np.uint8([0, 2])
    header = {"h": entry("F16", (2,), (0, 4)), "b": entry("BF16", (2,), (4, 8)), "f": entry("BOOL", (2,), (8, 10))}
    (tmp_path / "a").write_bytes(layout(header, half.tobytes() + brain.tobytes() + flags.tobytes()))
    tensors, _ = read_safetensors(tmp_path / "a")
    assert tensors["h"].tolist() == [1.5, -65504] and tensors["b"].tolist() == [1.5, -2]
    assert {tensors["h"].dtype, tensors["b"].dtype} == {np.dtype(np.float32)}
    assert tensors["f"].tolist() == [False, True]


@pytest.mark.parametrize("dtype", [dtype for name, dtype in safetensors.DTYPES.items() if name not in ("BF16", "F16")])
def test_what_is_written_is_read(tmp_path, dtype):
    given = {
        "byte": np.uint8([7]),
        "a": np.arange(6).reshape(2, 3).T.astype(dtype),
        "scalar": np.asarray(1, dtype),
        "empty": np.zeros((0, 2), dtype),
    }
    path = tmp_path / "a.safetensors"
    size = write_safetensors(path, given, {"classes": "[]"})
    tensors, metadata = read_safetensors(path)
    assert size == path.stat().st_size and metadata == {"classes": "[]"} and set(tensors) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(tensors[name], value)
        assert (tensors[name].dtype, tensors[name].shape) == (value.dtype, value.shape)
    head = path.read_bytes()
    assert is_safetensors(head) and int.from_bytes(head[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "shorter than a header"),
        (layout({"a": entry()}, bytes(8), size=10**6), "its header has 1,000,000 bytes"),
        (layout({"a": entry()}, bytes(8), size=2**63), "its header has"),
        (layout(b"{"), "no JSON"),
        (layout(b"\xff\xfe"), "no JSON"),
        (layout(b"[" * 100_000), "no JSON"),
        (layout(b"[]"), "no JSON object"),
        (layout({}), "it holds no tensor"),
        (layout(b'{"a":1' + b"0" * 5000 + b"}"), "a number of 5001 digits"),
        (layout(b'{"a":1,"a":2}'), "a name stands twice"),
        (layout({"a": 3}), "expected dtype, shape and data_offsets"),
        (layout({"__metadata__": {"a": 1}, "a": entry()}, bytes(8)), "expected texts by name"),
        (layout({"a": entry("F8_E4M3")}, bytes(8)), "is F8_E4M3, expected one of"),
        (layout({"a": entry(["F32"])}, bytes(8)), r"is \['F32'\]"),
        (layout({"a": entry(shape=(-2,))}, bytes(8)), "whole numbers of 0 or more"),
        (layout({"a": entry(shape=(2.0,))}, bytes(8)), "whole numbers of 0 or more"),
        (layout({"a": entry(shape=(True, 2))}, bytes(8)), "whole numbers of 0 or more"),
        (layout({"a": entry(shape=(1,) * 17)}, bytes(8)), "17 dimensions"),
        (layout({"a": entry(offsets=(0, 8, 9))}, bytes(8)), "3 offsets"),
        (layout({"a": entry(shape=(10**9, 10**9))}, bytes(8)), "has 8 bytes, expected 4000000000000000000"),
        (layout({"a": entry(shape=(2**40, 0), offsets=(0, 0))}), "or one above"),
        (layout({"a\x1b": entry()}, bytes(8)), "control characters"),
        (layout({"a": entry(offsets=(8, 0))}, bytes(8)), "has -8 bytes"),
        (layout({"a": entry()}, bytes(4)), "its tensors end at byte 8, the file at 4"),
        (layout({"a": entry()}, bytes(12)), "its tensors end at byte 8, the file at 12"),
        (layout({"a": entry(offsets=(4, 12))}, bytes(12)), "'a' begins at byte 4, the one before ends at 0"),
        (layout({"a": entry(), "b": entry()}, bytes(8)), "'b' begins at byte 0, the one before ends at 8"),
    ],
)
def test_damage_is_refused(tmp_path, data, message):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(UnreadableCheckpointError, match=rf"a\.safetensors is damaged.*{message}"):
        read_safetensors(tmp_path / "a.safetensors")


def test_a_missing_file_and_a_strange_type(tmp_path):
    with pytest.raises(UnreadableCheckpointError, match="No such file"):
        read_safetensors(tmp_path / "none")
    with pytest.raises(ValueError, match="'a' is complex64"):
        write_safetensors(tmp_path / "a", {"a": np.zeros(1, np.complex64)}, {})
    assert not list(tmp_path.iterdir())
