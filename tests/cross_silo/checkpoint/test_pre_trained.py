"""Matching a pre-trained checkpoint with a network, without a network."""

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, write_checkpoint
from cross_silo.checkpoint.pre_trained import Pretrained, class_note, class_tensors, filled_by_part, match
from cross_silo.checkpoint.tensor_file import write_tensors
from cross_silo.errors import UserError


def test_each_tensor_is_used_or_counted_by_its_reason():
    given = {"x.a": np.arange(2.0), "b": np.zeros(3), "deeper.c": np.zeros(1), "moments.a": np.zeros(2)}
    names = {"x.a": "a", "b": "b", "deeper.c": "c"}
    matching = match(Pretrained("p.ckpt", "", given), {"a": (2,), "b": (4,)}, names.get)
    np.testing.assert_array_equal(matching.values["a"], [0, 1])
    assert matching.values["a"].dtype == np.float32 and list(matching.values) == ["a"]
    assert (matching.unknown, matching.absent) == (["moments.a"], ["deeper.c"])
    assert matching.misshapen == {"b": "b has shape (3,), expected (4,)"}


def test_no_match_at_all_is_an_error():
    given = Pretrained("p.ckpt", "", {"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(UserError, match=r"p\.ckpt: none of its 2 tensors \(such as 'a'\).*such as 'c'"):
        match(given, {"c": (2,)}, lambda name: name)
    with pytest.raises(UserError, match=r"a has shape \(2,\), expected \(4,\)"):
        match(given, {"a": (4,)}, lambda name: name)


@pytest.mark.parametrize("second", [(2,), (3,)])
def test_two_tensors_for_one_place_are_an_error(second):
    given = Pretrained("p.ckpt", "", {"a": np.zeros(2), "x.a": np.zeros(second)})
    with pytest.raises(UserError, match="'a' and 'x.a' both fill 'a'"):
        match(given, {"a": (2,)}, lambda name: name.split(".")[-1])


def test_reads_a_file_with_its_classes(tmp_path):
    path = str(tmp_path / "a.ckpt")
    write_checkpoint(path, {"a": np.zeros(2, np.float32)}, CheckpointInfo(classes=("cat", "dog")))
    given = Pretrained.read(path)
    assert given.classes == ("cat", "dog") and list(given.tensors) == ["a"] and len(given.sha256) == 64
    assert Pretrained.read("") == Pretrained("", "", {})


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_reads_what_pytorch_passes_on(tmp_path, ending):
    path = str(tmp_path / f"a.{ending}")
    write_tensors(path, {"a": np.arange(3, dtype=np.float32)}, CheckpointInfo())
    given = Pretrained.read(path)
    np.testing.assert_array_equal(given.tensors["a"], [0, 1, 2])
    assert len(given.sha256) == 64


def test_a_value_is_brought_into_our_layout():
    given = Pretrained("p.pth", "", {"theirs": np.zeros((2, 3)), "b": np.zeros(1)})
    matching = match(
        given, {"a": (3, 2)}, {"theirs": "a"}.get, lambda name, value: value.T if name == "theirs" else value
    )
    assert matching.values["a"].shape == (3, 2) and matching.unknown == ["b"]


def test_class_layers_are_those_whose_shape_follows_the_classes():
    assert class_tensors({"a": (2, 3), "b": (3,), "c": (1,)}, {"a": (2, 3), "b": (4,), "c": (2,)}) == ["b", "c"]


@pytest.mark.parametrize(
    ("theirs", "ours", "anew", "note"),
    [
        (("a", "b"), ("a", "b"), [], ""),
        ((), ("a", "b"), [], ""),
        (("a", "b"), (), [], ""),
        ((), (), ["head"], "head: made anew for 2 classes; the checkpoint has others"),
        (("a",), (), ["head"], "head: made anew for 2 classes; the checkpoint has 1 classes (a)"),
        (
            ("b", "a"),
            ("a", "b"),
            [],
            "filled in the checkpoint's order of classes: the checkpoint has 2 classes (b, a), this model a, b",
        ),
    ],
)
def test_says_what_becomes_of_the_class_layers(theirs, ours, anew, note):
    assert class_note(Pretrained("p.ckpt", "", {}, theirs), ours, 2, anew) == note


def test_counts_by_part():
    shapes = {"backbone.a": (), "backbone.b": (), "rpn.c": (), "threshold": ()}
    assert filled_by_part(shapes, ["backbone.b"]) == {"backbone": (1, 2), "rpn": (0, 1), "threshold": (0, 1)}
