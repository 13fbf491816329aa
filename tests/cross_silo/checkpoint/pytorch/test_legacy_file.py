"""The format of torch.save before PyTorch 1.6."""

import pickle

import numpy as np
import pytest

from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.pytorch import legacy_file, read_torch
from tests.support import torch_files

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.int64([1, -2])


@pytest.fixture
def tensors():
    return {"a": torch_files.tensor("94", A), "b": torch_files.tensor("17", B)}


def test_the_magic_number_is_its_pickle():
    assert pickle.dumps(torch_files.MAGIC_NUMBER, 2) == legacy_file.MAGIC


@pytest.mark.parametrize("little_endian", [True, False])
def test_reads_tensors(tmp_path, tensors, little_endian):
    found = read_torch(torch_files.save_legacy(tmp_path / "a.pth", tensors, little_endian=little_endian)).tensors
    np.testing.assert_array_equal(found["a"], A)
    np.testing.assert_array_equal(found["b"], B)


def test_a_network_whose_class_is_kept_with_its_source(tmp_path):
    made = torch_files.module("models.yolo.Model", {"w": torch_files.tensor("0", A)}, {})
    path = torch_files.save_legacy(tmp_path / "a.pt", made, type(made))
    data = (tmp_path / "a.pt").read_bytes()
    by_name = b"cmodels.yolo\nModel\n"
    assert by_name in data
    kept = b"(X\x06\x00\x00\x00module" + by_name + b"X\x04\x00\x00\x00a.pyX\x04\x00\x00\x00passtQ"
    (tmp_path / "a.pt").write_bytes(data.replace(by_name, kept))
    np.testing.assert_array_equal(read_torch(path).tensors["w"], A)


def replaced(path, before, after):
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after, 1))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (b"M\xe9\x03", b"M\xea\x03", "its protocol version is not 1001"),
        (b"\x06\x00\x00\x00\x00\x00\x00\x00" + A.tobytes(), b"\xff" * 8 + A.tobytes(), "'94' has 18446744073709551615"),
        (A.tobytes(), A.tobytes()[:5], "'17' has [0-9]+ numbers, expected 2"),
        (B.tobytes(), B.tobytes()[:5], "'17' reaches beyond the file"),
        (
            b"\x06\x00\x00\x00\x00\x00\x00\x00" + A.tobytes(),
            b"\x05" + bytes(7) + A.tobytes(),
            "'94' has 5 numbers, expected 6",
        ),
        (b"]q\x00(X\x02\x00\x00\x0094", b"]q\x00(X\x02\x00\x00\x0095", "its storage '95' belongs to no tensor"),
        (b"q\x01X\x02\x00\x00\x0017q\x02e.", b"q\x01e.", "its storage '17' is missing"),
        (b"(X\x02\x00\x00\x0094q\x01X", b"(K\x05q\x01X", "its list of storages is none"),
    ],
)
def test_damage_is_refused(tmp_path, tensors, before, after, message):
    path = tmp_path / "a.pth"
    torch_files.save_legacy(path, tensors)
    replaced(path, before, after)
    with pytest.raises(UnreadableCheckpointError, match=message):
        read_torch(path)


def test_a_call_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch_files.save_legacy(path, {"a": 1})
    replaced(path, b"K\x01s.", b"cos\nsystem\nX\x02\x00\x00\x00ls\x85Rs.")
    with pytest.raises(UnreadableCheckpointError, match=r"a\.pth is refused: it names os\.system"):
        read_torch(path)
