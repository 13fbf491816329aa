"""Pickles of every dangerous kind are refused by name and have no effect."""

import builtins
import codecs
import collections
import functools
import io
import os
import pathlib
import pickle
import pickletools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.checkpoint.pytorch import unpickle as machine
from cross_silo.checkpoint.pytorch.records import Inert, Instance, Name, RefusedError, Tensor
from cross_silo.checkpoint.pytorch.unpickle import unpickle
from tests.support import torch_files


def read(content):
    return unpickle(io.BytesIO(content))


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def calling(function, *arguments):
    class Call:
        def __reduce__(self):
            return function, arguments

    return Call()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (lambda path: calling(os.system, f"touch {path}"), f"{os.system.__module__}.system"),
        (lambda path: calling(eval, f"open({path!r}, 'w')"), "builtins.eval"),
        (lambda path: calling(exec, f"open({path!r}, 'w')"), "builtins.exec"),
        (lambda path: calling(getattr, "", "upper"), "builtins.getattr"),
        (lambda path: calling(open, path, "w"), "io.open"),
        (lambda path: calling(functools.partial, os.system, f"touch {path}"), "functools.partial"),
        (lambda path: os.system, f"{os.system.__module__}.system"),
    ],
)
def test_a_call_is_refused_and_has_no_effect(tmp_path, attack, name, protocol):
    target = str(tmp_path / "effect")
    if name.startswith("builtins.") and protocol == 2:
        name = name.replace("builtins", "__builtin__")
    content = pickle.dumps({"model": attack(target)}, protocol)
    with pytest.raises(RefusedError, match=f"it (names|calls) ({name}).*not read"):
        read(content)
    assert not os.path.exists(target)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cos\nsystem\n(X\x02\x00\x00\x00ls\x85R.", "it names os.system, which is not read"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", "it names os.system, which is not read"),
        (b"(ios\nsystem\n.", "it names os.system by INST"),
        (b"\x80\x02(cos\nsystem\nX\x02\x00\x00\x00lso.", "it names os.system"),
        (b"\x80\x02(ccollections\nOrderedDict\no.", "opcode OBJ"),
        (b"\x80\x02\x82\x01.", "it names 1 by extension code"),
        (b"\x80\x02\x83\x01\x00.", "it names 1 by extension code"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "it names 1 by extension code"),
        (b"P0\n.", "opcode PERSID"),
        (b"\x80\x04N\x93.", "a value is missing"),
        (b"\x80\x04NN\x93.", "names a class by what is no text"),
        (b"\x80\x04" + text("torch") + text("nn.__class__") + b"\x93.", None),
        (b"\x80\x02NNR.", "it calls a NoneType"),
        (b"\x80\x02" + text("f") + b")R.", "it calls a str"),
        (b"\x80\x02ctorch.nn.modules.module\nModule\n)R.", "it calls torch.nn.modules.module.Module"),
        (b"\x80\x02ctorch.nn.modules.module\nModule\nK\x01\x85\x81.", "in a way that is not read"),
        (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "it calls collections.OrderedDict"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "makes an object of collections.OrderedDict"),
        (b"\x80\x02N)\x81.", "makes an object of a NoneType"),
        (b"\x80\x02N}b.", "sets the state of a NoneType"),
        (b"\x80\x02ctorch\nFloatStorage\n}b.", "sets the state of a Name"),
        (b"\x80\x02}Nb.", "sets the state of a dict to a NoneType"),
        (b"\x80\x02ctorch.nn.X\nY\n)\x81Nb.", "sets the state of torch.nn.X.Y to a NoneType"),
        (b"\x80\x02ctorch.nn.X\nY\n)\x81}b}b.", "sets the state of torch.nn.X.Y"),
        (b"\x80\x02ctorch.nn.X\nY\n)\x81NNs.", "sets items of a Instance"),
        (b"\x80\x02NNa.", "appends to a NoneType"),
        (b"\x80\x02})Ns.", "it has a tuple as a key"),
        (b"\x80\x02}(NNNu.", "sets items of a dict"),
        (b"\x80\x02NQ.", "outside of the pickle that is no storage"),
        (b"\x80\x02h\x05.", "memo 5 is not set"),
        (b"\x80\x02K\x01K\x02.", "does not end with one value"),
        (b"\x80\x02(K\x01.", "does not end with one value"),
        (b"\x80\x02t.", "a mark is missing"),
        (b"\x80\x020.", "damaged"),
        (b"\x80\x02N", "damaged"),
        (b"", "damaged"),
        (b"\xff", "damaged"),
        (b"\x80\x02X\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "damaged"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
        (b"\x80\x022.", "opcode DUP"),
        (b"\x80\x02I1\n.", "opcode INT"),
        (b"\x80\x02cmodels.yolo\nDetectionModel\n" + b"}b.", "sets the state of a Name"),
        (b"\x80\x02c__main__\nNet\n)\x81.", "it names __main__.Net, which is not read"),
        (b"\x80\x02ctorchvisions\nX\n.", "it names torchvisions.X"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "it names torch._utils._rebuild_qtensor"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.", "it calls torch._utils._rebuild_parameter"),
        (b"\x80\x02c__builtin__\nset\nN\x85R.", "it calls __builtin__.set with other arguments"),
    ],
)
def test_what_torch_save_does_not_write_is_refused(content, message):
    if message is None:
        assert type(read(content)) is Name  # a text, which is looked up nowhere
    else:
        with pytest.raises(RefusedError, match=message):
            read(content)


def identity(kind="Float", key="0", count=4, word="storage"):
    return b"(" + text(word) + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + pickle_int(count) + b"tQ"


def pickle_int(value):
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else pickle.dumps(value, 2)[2:-1]


def tensor(storage=None, offset=0, size=(2,), stride=(1,)):
    numbers = [b"(" + b"".join(pickle_int(value) for value in values) + b"t" for values in (size, stride)]
    arguments = (identity() if storage is None else storage) + pickle_int(offset) + numbers[0] + numbers[1]
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"\x89NtR."


def test_a_tensor_is_a_record():
    found = read(tensor(offset=1, size=(3, 1), stride=(1, 7)))
    assert type(found) is Tensor and (found.offset, found.size, found.stride) == (1, (3, 1), (1, 7))
    assert (found.storage.key, found.storage.element, found.storage.count) == ("0", "f4", 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensor(offset=-1), "a tensor's offset is -1"),
        (tensor(size=(-2,)), "a tensor's size is -2"),
        (tensor(stride=(-1,)), "a tensor's stride is -1"),
        (tensor(size=(2**70,)), "a tensor's size is 1180591620717411303424"),
        (tensor(size=(2, 2)), "size and strides do not agree"),
        (tensor(size=(1,) * 17, stride=(1,) * 17), "size and strides do not agree"),
        (tensor(storage=b"N"), "a tensor without a storage"),
        (tensor(storage=identity(count=-4)), "a storage's count is -4"),
        (tensor(storage=identity(word="module")), "outside of the pickle that is no storage"),
        (tensor(storage=identity(kind="QInt8")), "it names torch.QInt8Storage"),
        (tensor().replace(b"(J\x02\x00\x00\x00t", b"(\x88t"), "a tensor's size is a bool"),
        (tensor().replace(b"(J\x02\x00\x00\x00t", b"J\x02\x00\x00\x00"), "size and strides do not agree"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(content, message):
    with pytest.raises(RefusedError, match=message):
        read(content)


def test_reads_what_lies_beside_tensors_as_records():
    value = {
        "path": pathlib.PurePosixPath("/x"),
        "array": np.zeros(2),
        "best": np.float64(0.5),
        "names": {0: "a", 1: "b"},
        "buffers": {"a"},
        "rates": [0.5, (1, None, True, b"x", "é")],
        "none": collections.OrderedDict(a=1),
        "counts": collections.defaultdict(list, {(1, 2): [3]}),
        "large": 2**40,
    }
    for protocol in (2, 4, 5):
        found = read(pickle.dumps(value, protocol))
        assert found["names"] == value["names"] and found["rates"][0] == 0.5 and found["large"] == 2**40
        assert found["rates"][1][1:3] == (None, True) and found["rates"][1][4] == "é"
        assert found["buffers"] == ["a"] and found["none"] == {"a": 1}
        assert {type(found[key]) for key in ("path", "array", "best", "counts")} == {Inert}


def test_a_network_is_an_instance_with_its_state():
    made = torch_files.module("models.yolo.DetectionModel", {}, {}, names=["a"])
    content, _ = torch_files.pickled(made, type(made))
    found = read(content)
    assert type(found) is Instance and found.of == Name("models.yolo", "DetectionModel")
    assert found.state["names"] == ["a"] and found.state["_parameters"] == {}


def test_shared_parts_cost_no_more_than_their_bytes():
    """Each tuple holds the one before twice: 2 ** 5000 leaves, which nothing walks, compares, hashes or prints."""
    rounds = 5000
    layers = b"".join(b"r" + struct.pack("<I", i) + b"j" + struct.pack("<I", i) + b"\x86" for i in range(rounds))
    bomb = b"\x80\x02K\x01" + layers
    assert type(read(bomb + b".")) is tuple
    for use, message in ((b"}" + bomb[2:] + b"Ns.", "a tuple as a key"), (bomb[2:] + b"Q.", "no storage")):
        with pytest.raises(RefusedError, match=message):
            read(b"\x80\x02" + use)


def test_sets_of_one_long_list_are_not_copies_of_it():
    first, second = read(b"\x80\x02](" + b"N" * 100 + b"eq\x000(" + b"c__builtin__\nset\nh\x00\x85R" * 2 + b"t.")
    assert first is second and len(first) == 100


def test_depth_is_no_recursion():
    depth = 50_000
    assert type(read(b"\x80\x02N" + b"\x85" * depth + b".")) is tuple
    assert type(read(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")) is list


def test_a_pickle_has_a_bound(monkeypatch):
    monkeypatch.setattr(machine, "MAX_OPCODES", 100)
    with pytest.raises(RefusedError, match="more than 100 opcodes"):
        read(b"\x80\x02" + b"N0" * 60 + b"N.")


def test_long_names_are_shortened():
    with pytest.raises(RefusedError) as caught:
        read(b"\x80\x02c" + b"m" * 100_000 + b"\nf\n.")
    assert len(str(caught.value)) < 200
    with pytest.raises(RefusedError, match=r"it names a\?\[31m\.f"):
        read(b"\x80\x02ca\x1b[31m\nf\n.")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_gives_a_value_or_a_refusal_and_nothing_else(data):
    made = torch_files.module("torch.nn.X", {"w": torch_files.tensor("0", np.zeros(3, np.float32))}, {}, s={"a"})
    content = bytearray(torch_files.pickled({"m": made, "d": [1, (2.0, "x")]}, type(made))[0])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with mock_nothing_imported():
        try:
            read(bytes(content))
        except RefusedError:
            pass


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([o.code.encode("latin-1") for o in pickletools.opcodes] + [b"\x00", b"\n", b"a\n", b"\x01"])
    )
)
def test_any_opcodes_give_a_value_or_a_refusal(parts):
    with mock_nothing_imported():
        try:
            read(b"".join(parts) + b".")
        except RefusedError:
            pass


class mock_nothing_imported:  # noqa: N801
    """Fails where anything is imported meanwhile."""

    def __enter__(self):
        for codec in ("raw-unicode-escape", "latin-1"):  # Python imports a codec at its first use
            b"".decode(codec)
            codecs.lookup(codec)
        self.real = builtins.__import__

        def refuse(name, *rest, **named):
            raise AssertionError(f"{name} is imported")

        builtins.__import__ = refuse

    def __exit__(self, *error):
        builtins.__import__ = self.real
