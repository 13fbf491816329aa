"""Whole files: what torch.save writes is read, everything else is refused with the file's name."""

import os
import tarfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cross_silo.checkpoint.file import UnreadableCheckpointError
from cross_silo.checkpoint.pytorch import is_torch_file, read_torch
from tests.support import torch_files

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def network(half=False):
    """A network as YOLOv5's releases have it: the whole object, in half precision, with its class names."""
    numbers = WEIGHT.astype(np.float16) if half else WEIGHT
    conv = torch_files.module("torch.nn.modules.conv.Conv2d", {"weight": torch_files.tensor("0", numbers, True)}, {})
    block = torch_files.module("models.common.Conv", {}, {"conv": conv})
    rest = torch_files.module("torch.nn.modules.container.Sequential", {}, {"0": block})
    top = torch_files.module("models.yolo.DetectionModel", {}, {"model": rest}, names=["cat", "dog"])
    return top, [type(part) for part in (top, rest, block, conv)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_of_any_protocol(tmp_path, protocol):
    given = {"a": torch_files.tensor("0", WEIGHT), "b": torch_files.tensor("1", np.asarray(7, np.int64))}
    found = read_torch(torch_files.save(tmp_path / "a.pth", given, protocol=protocol))
    np.testing.assert_array_equal(found.tensors["a"], WEIGHT)
    assert found.tensors["b"].shape == () and found.tensors["b"] == 7 and found.tensors["b"].dtype == np.int64


@pytest.mark.parametrize("save", [torch_files.save, torch_files.save_legacy])
def test_a_pickled_network(tmp_path, save):
    top, classes = network(half=True)
    path = save(tmp_path / "yolov5n.pt", {"epoch": -1, "model": top, "optimizer": None}, *classes)
    found = read_torch(path)
    np.testing.assert_array_equal(found.tensors["model.0.conv.weight"], WEIGHT)
    assert found.tensors["model.0.conv.weight"].dtype == np.float32 and found.classes == ("cat", "dog")
    assert set(found.left_out) == {"epoch", "optimizer"}


class Attack:
    """Runs a command where it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("save", [torch_files.save, torch_files.save_legacy])
@pytest.mark.parametrize("where", ["top", "beside", "state", "argument", "key"])
def test_a_command_is_not_run(tmp_path, save, where):
    target = tmp_path / "effect"
    top, classes = network()
    if where == "top":
        top = Attack(target)
    elif where == "beside":
        top = {"model": top, "opt": Attack(target)}
    elif where == "state":
        top._modules["model"].extra = Attack(target)
    elif where == "argument":
        top = {"w": torch_files.Tensor(torch_files.Storage("0", WEIGHT), Attack(target), (2, 3), (3, 1))}
    else:
        top = {Attack(target): top}
    path = save(tmp_path / "a.pt", top, *classes)
    with pytest.raises(UnreadableCheckpointError, match=rf"a\.pt is refused: it names {os.system.__module__}\.system"):
        read_torch(path)
    assert not target.exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
@pytest.mark.parametrize("save", [torch_files.save, torch_files.save_legacy])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path, save, data):
    top, classes = network()
    path = tmp_path / "a.pt"
    save(path, {"model": top, "epoch": 1}, *classes)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at, count = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 8))
        content[at : at + count] = data.draw(st.binary(min_size=0, max_size=8))
    path.write_bytes(content)
    try:
        read_torch(path)
    except UnreadableCheckpointError:
        pass


def test_what_is_no_file_of_pytorch(tmp_path):
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_bytes(b"hello")
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.add(tmp_path / "text.pth", "tensors")
    for name, message in (("none", "No such file"), ("empty", r"empty \(0 bytes\)"), ("text", "no file of torch.save")):
        with pytest.raises(UnreadableCheckpointError, match=message):
            read_torch(tmp_path / f"{name}.pth")
    with pytest.raises(UnreadableCheckpointError, match="a tar archive"):
        read_torch(tmp_path / "old.pth")
    assert is_torch_file((tmp_path / "old.pth").read_bytes()) and not is_torch_file(b"hello")
