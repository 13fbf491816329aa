"""Which tensors of a file are its network's."""

import numpy as np
import pytest

from cross_silo.checkpoint.pytorch.records import Inert, Instance, Name, RefusedError, Storage, Tensor
from cross_silo.checkpoint.pytorch.state_dict import MAX_DEPTH, select


def tensor():
    return Tensor(Storage("0", "f4", 1), 0, (1,), (1,))


def module(parameters=(), children=None, buffers=(), **more):
    state = {
        "_parameters": dict.fromkeys(parameters, tensor()),
        "_buffers": dict.fromkeys(buffers, tensor()),
        "_modules": children or {},
    }
    return Instance(Name("models.yolo", "DetectionModel"), {**state, **more})


def test_a_network_has_the_names_of_its_state_dict():
    norm = module(["weight", "bias"], buffers=["running_mean", "passing"], _non_persistent_buffers_set=["passing"])
    norm.state["_parameters"]["none"] = None
    conv = module(["weight"])
    top = module(
        ["scale"], {"0": module(children={"conv": conv, "bn": norm, "none": None}), "1": conv}, names=["a", "b"]
    )
    found = select(top)
    expected = ["scale", "0.conv.weight", "0.bn.weight", "0.bn.bias", "0.bn.running_mean", "1.weight"]
    assert list(found.tensors) == expected and found.classes == ("a", "b") and not found.left_out


@pytest.mark.parametrize(("names", "classes"), [({0: "a", 1: "b"}, ("a", "b")), ({1: "a"}, ()), ([1], ()), (None, ())])
def test_class_names(names, classes):
    assert select(module(["w"], names=names)).classes == classes


def test_a_state_dict_is_taken_and_what_is_no_tensor_is_said():
    found = select({"w": tensor(), "epoch": 3, 7: tensor(), "x": Inert(Name("numpy", "dtype"))})
    assert list(found.tensors) == ["w"]
    assert found.left_out["epoch"] == "int, expected a tensor with a name"
    assert found.left_out["7"].startswith("Tensor,") and found.left_out["x"].startswith("numpy.dtype,")


@pytest.mark.parametrize("keys", [("ema", "model"), ("model", "state_dict"), ("state_dict", "other"), ("net",)])
def test_a_training_runs_network_is_found(keys):
    top = {"epoch": 1, **{key: {key: tensor()} for key in reversed(keys)}, "optimizer": {"state": {0: {"m": tensor()}}}}
    found = select(top)
    assert list(found.tensors) == [keys[0]]
    assert set(found.left_out) == {"epoch", "optimizer", *keys[1:]}


def test_no_averaged_weights_gives_the_model():
    assert list(select({"ema": None, "model": module(["w"])}).tensors) == ["w"]


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ([tensor()], "it holds a list; expected a state_dict or a network"),
        (tensor(), "it holds a Tensor"),
        ({}, r"it holds no tensors \(its keys: none\)"),
        ({"epoch": 1}, r"it holds no tensors \(its keys: epoch\)"),
        ({"a": {"w": tensor()}, "b": {"w": tensor()}}, r"several sets of tensors \(its keys: a, b\)"),
        ({"net": Instance(Name("models.x", "Y"), {})}, r"no tensors .*models\.x\.Y is no network"),
        (Instance(Name("models.x", "Y")), r"it holds a models\.x\.Y"),
        (module(children={"0": Instance(Name("models.x", "Y"), {})}), r"0 is a models\.x\.Y, expected a module"),
        (module(children={"0": 3}), "0 is a int, expected a module"),
        (module(_parameters={"w": 3}), "w is a int, expected a tensor"),
        (module(_buffers={"w": Inert(Name("numpy", "ndarray"))}), r"w is a numpy\.ndarray, expected a tensor"),
        (module(), r"models\.yolo\.DetectionModel has no tensors"),
    ],
)
def test_anything_else_is_refused_by_name(top, message):
    with pytest.raises(RefusedError, match=message):
        select(top)


def test_networks_are_neither_deep_nor_endless():
    deep = module(["w"])
    for _ in range(MAX_DEPTH):
        deep = module(children={"0": deep})
    with pytest.raises(RefusedError, match="modules deep"):
        select(deep)
    inside = module(["w"])
    inside.state["_modules"]["0"] = inside
    with pytest.raises(RefusedError, match="modules deep"):
        select(inside)
    bomb = module(["w"])
    for _ in range(40):
        bomb = module(children={"0": bomb, "1": bomb})
    with pytest.raises(RefusedError, match="more than 100,000 modules"):
        select(bomb)


def test_shared_parts_are_not_walked_without_end():
    wide = module([f"p{i}" for i in range(10_000)])
    bomb = module(children={str(i): wide for i in range(100)})
    with pytest.raises(RefusedError, match="more than 1,000,000 entries"):
        select(module(children={str(i): bomb for i in range(1000)}))
    large = dict.fromkeys(range(10_000))
    assert list(select({"w": {"w": tensor()}, **{f"x{i}": large for i in range(10_000)}}).tensors) == ["w"]


@pytest.mark.parametrize("name", ["a" * 1001, "a\x1b[31m", "a\nb"])
def test_names_that_a_terminal_would_obey_are_refused(name):
    for top in ({name: tensor()}, module([name]), module(children={name: module(["w"])})):
        with pytest.raises(RefusedError, match="too long or with control characters") as caught:
            select(top)
        assert str(caught.value).isprintable()
    assert select(module(["w"], names=["a\x1b"])).classes == ()


def test_many_names_of_a_buffer_set_are_compared_as_texts_only():
    top = module(["w"], buffers=["b"], _non_persistent_buffers_set=[["x"], np.zeros, "b"])
    assert list(select(top).tensors) == ["w"]
