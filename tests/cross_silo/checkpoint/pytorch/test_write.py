"""What is written is what torch.save writes, by CPython's own unpickler and zipfile."""

import collections
import io
import pickle
import zipfile

import numpy as np
import pytest

from cross_silo.checkpoint.pytorch import read_torch, write_torch
from cross_silo.checkpoint.pytorch.unpickle import unpickle
from cross_silo.checkpoint.pytorch.write import ALIGNMENT, state_dict_pickle
from tests.support import torch_files

TENSORS = {
    "model.0.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "scalar": np.asarray(5, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "half": np.float16([1.5, -2]),
    "flags": np.asarray([True, False]),
    "bytes": np.uint8([255, 0]),
    "big": np.asarray([1, 2], ">i4"),
    "\u00e9": np.int16([-1]),
}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.pth"
    size = write_torch(path, TENSORS)
    assert size == path.stat().st_size and [file.name for file in tmp_path.iterdir()] == ["a.pth"]
    found = read_torch(path).tensors
    assert list(found) == list(TENSORS)
    for name, value in TENSORS.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].shape == value.shape
    first = path.read_bytes()
    write_torch(path, TENSORS)
    assert path.read_bytes() == first


def test_cpython_unpickles_it_to_rebuilt_tensors():
    made = []

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return lambda *arguments: made.append(arguments) or arguments
            return collections.OrderedDict if name == "OrderedDict" else f"{module}.{name}"

        def persistent_load(self, identity):
            return identity

    found = Unpickler(io.BytesIO(state_dict_pickle(TENSORS))).load()
    assert type(found) is collections.OrderedDict and list(found) == list(TENSORS) and len(made) == len(TENSORS)
    storage, offset, size, stride, gradient, hooks = found["model.0.conv.weight"]
    assert storage == ("storage", "torch.FloatStorage", "0", "cpu", 24)
    assert (offset, size, stride, gradient, hooks) == (0, (2, 3, 4), (12, 4, 1), False, collections.OrderedDict())
    assert found["scalar"][2:4] == ((), ()) and found["transposed"][2:4] == ((3, 2), (2, 1))
    assert [found[name][0][1] for name in ("half", "flags", "bytes")] == [
        "torch.HalfStorage",
        "torch.BoolStorage",
        "torch.ByteStorage",
    ]


def test_the_pickle_means_what_the_picklers_does():
    content, _ = torch_files.pickled(
        collections.OrderedDict((name, torch_files.tensor(str(i), TENSORS[name])) for i, name in enumerate(("scalar",)))
    )
    ours, theirs = (unpickle(io.BytesIO(part)) for part in (state_dict_pickle({"scalar": TENSORS["scalar"]}), content))
    assert list(ours) == list(theirs)
    for attribute in ("offset", "size", "stride"):
        assert getattr(ours["scalar"], attribute) == getattr(theirs["scalar"], attribute)
    assert vars(ours["scalar"].storage) == vars(theirs["scalar"].storage)


def test_records_are_stored_aligned_and_whole(tmp_path):
    path = tmp_path / "yolov5.pth"
    write_torch(path, TENSORS)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[0] == "yolov5/data.pkl" and names[-1] == "yolov5/version"
        assert archive.read("yolov5/version") == b"3\n" and archive.read("yolov5/byteorder") == b"little"
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            at = entry.header_offset
            start = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")
            assert (start + int.from_bytes(data[at + 28 : at + 30], "little")) % ALIGNMENT == 0


def test_a_large_count_is_written():
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (3 * 2**30,), (0,))
    found = unpickle(io.BytesIO(state_dict_pickle({"w": huge})))["w"]
    assert found.size == (3 * 2**30,) and found.storage.count == 3 * 2**30


def test_a_type_that_pytorch_has_not_is_refused_and_nothing_is_left(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="'w' is uint32"):
        write_torch(path, {"w": np.zeros(1, np.uint32)})
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
