"""One way to read and to write every format."""

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.tensor_file import FORMATS, read_tensors, write_tensors
from cross_silo.errors import UserError
from tests.support import torch_files

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.asarray(3, np.int64)}


@pytest.mark.parametrize("ending", FORMATS)
def test_what_is_written_is_read_whatever_its_name(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    assert write_tensors(path, TENSORS, CheckpointInfo(classes=("cat", "dog"))) == path.stat().st_size
    path = path.rename(tmp_path / "weights")
    found = read_tensors(path)
    assert found.format == FORMATS[ending] and set(found.tensors) == set(TENSORS) and not found.left_out
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found.tensors[name], value)
        assert found.tensors[name].shape == value.shape
    assert found.info.classes == (() if ending in (".pth", ".pt") else ("cat", "dog"))


def test_what_a_file_of_pytorch_has_beside_is_said(tmp_path):
    path = torch_files.save(tmp_path / "a.pt", {"model": {"w": torch_files.tensor("0", np.zeros(2))}, "epoch": 3})
    assert list(read_tensors(path).left_out) == ["epoch"]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(UnreadableCheckpointError, match=r"none: No such file"):
        read_tensors(tmp_path / "none")
    (tmp_path / "text").write_bytes(b"hello world")
    with pytest.raises(UnreadableCheckpointError, match=r"text is damaged, encrypted or no MindSpore checkpoint"):
        read_tensors(tmp_path / "text")
    with pytest.raises(UserError, match=r"a\.onnx: found the ending '\.onnx'; expected one of \.ckpt"):
        write_tensors(tmp_path / "a.onnx", TENSORS, CheckpointInfo())
    for ending in FORMATS:
        with pytest.raises(UserError, match=r"'w' is complex64"):
            write_tensors(tmp_path / f"a{ending}", {"w": np.zeros(1, np.complex64)}, CheckpointInfo())
        with pytest.raises(UserError, match="No such file"):
            write_tensors(tmp_path / "none" / f"a{ending}", TENSORS, CheckpointInfo())
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize("metadata", ["{", "[1]", "3", "[" * 100_000])
def test_strange_class_names_are_none(tmp_path, metadata):
    from cross_silo.checkpoint.safetensors import write_safetensors

    write_safetensors(tmp_path / "a", TENSORS, {"classes": metadata})
    assert read_tensors(tmp_path / "a").info.classes == ()


def test_a_checkpoint_keeps_all_that_it_says(tmp_path):
    info = CheckpointInfo(fl_name="job", round=3, classes=("a",))
    write_tensors(tmp_path / "a.ckpt", TENSORS, info)
    assert read_checkpoint(tmp_path / "a.ckpt")[1] == info == read_tensors(tmp_path / "a.ckpt").info
