"""Conversions between formats and names, with two public namings of a small model."""

import json

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.convert import main
from cross_silo.checkpoint.tensor_file import read_tensors, write_tensors
from cross_silo.detection.names import rename
from cross_silo.errors import UserError
from tests.support import torch_files

PUBLIC = {"conv.weight": "stem.weight", "bn.gamma": "norm.weight", "bn.beta": "norm.bias"}


class Whole:
    """Public names of everything but the statistics; biases are doubled."""

    names = PUBLIC

    def __init__(self, settings=None):
        self.settings = settings

    def to_ours(self, tensors):
        ours = {**{theirs: mine for mine, theirs in self.names.items()}, **{mine: mine for mine in PUBLIC}}
        found = rename(tensors, ours.get, lambda name: "unknown", lambda n, v: v / 2 if n == "norm.bias" else v)
        found.notes.append(f"settings: {type(self.settings).__name__}")
        return found

    def from_ours(self, tensors):
        return rename(tensors, self.names.get, lambda name: "private", lambda n, v: v * 2 if n == "bn.beta" else v)

    def num_classes(self, tensors):
        return 3


class Stem(Whole):
    """Public names of the first layer alone."""

    names = {"conv.weight": "stem.weight"}


NAMINGS = {"stem": f"{__name__}:Stem", "whole": f"{__name__}:Whole"}
OTHERS = {"other": "faster_rcnn.names:TorchvisionResNet"}
"""Of another detector."""
OURS = {
    "conv.weight": np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3),
    "bn.gamma": np.ones(4, np.float32),
    "bn.beta": np.arange(4, dtype=np.float32),
}
THEIRS = {"stem.weight": OURS["conv.weight"], "norm.weight": OURS["bn.gamma"], "norm.bias": OURS["bn.beta"] * 2}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let a naming be found in this module, as in a detector's."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[Whole.__module__])


def converted(capsys, source, target, *arguments, namings=NAMINGS):
    assert main(namings, ["--in", str(source), "--out", str(target), "--json", *map(str, arguments)]) == 0
    return json.loads(capsys.readouterr().out)


def check(path, expected):
    found = read_tensors(path).tensors
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_public_names_become_ours_in_a_ckpt_and_public_again_elsewhere(tmp_path, capsys):
    given = {name: torch_files.tensor(name, value) for name, value in THEIRS.items()}
    given["steps"] = torch_files.tensor("steps", np.asarray(3, np.int64))
    torch_files.save(tmp_path / "a.pth", {"model": given, "epoch": 1})
    report = converted(capsys, tmp_path / "a.pth", tmp_path / "a.ckpt")
    check(tmp_path / "a.ckpt", OURS)
    assert (report["names"], report["read"], report["written"], report["parameters"]) == ("ours", 4, 3, 116)
    assert report["left_out"] == {"epoch": "int beside the weights of 'model'", "steps": "unknown"}
    assert report["notes"] == ["settings: NoneType"] and report["not_filled"] == []
    report = converted(capsys, tmp_path / "a.ckpt", tmp_path / "b.safetensors")
    check(tmp_path / "b.safetensors", THEIRS)
    assert report["names"] == "whole"
    assert converted(capsys, tmp_path / "b.safetensors", tmp_path / "c.pt")["names"] == "whole"
    check(tmp_path / "c.pt", THEIRS)


def test_the_names_asked_for_are_written(tmp_path, capsys):
    write_checkpoint(tmp_path / "a.ckpt", OURS, CheckpointInfo(classes=("a", "b", "c")))
    report = converted(capsys, tmp_path / "a.ckpt", tmp_path / "a.pth", "--names", "ours")
    check(tmp_path / "a.pth", OURS)
    assert report["classes"] == ["a", "b", "c"]
    report = converted(capsys, tmp_path / "a.ckpt", tmp_path / "b.ckpt", "--names", "stem")
    check(tmp_path / "b.ckpt", {"stem.weight": OURS["conv.weight"]})
    assert report["left_out"] == {"bn.gamma": "private", "bn.beta": "private"}
    assert read_checkpoint(tmp_path / "b.ckpt")[1].classes == ("a", "b", "c")


def test_keep_changes_the_format_alone(tmp_path, capsys):
    given = {"x": np.arange(3.0), "count": np.asarray(2, np.int64)}
    write_tensors(tmp_path / "a.safetensors", given, CheckpointInfo(classes=("a",)))
    report = converted(capsys, tmp_path / "a.safetensors", tmp_path / "a.ckpt", "--names", "keep")
    found, info = read_checkpoint(tmp_path / "a.ckpt")
    assert found["x"].dtype == np.float64 and found["count"] == 2 and info.classes == ("a",)
    assert report["names"] == "keep" and report["format"] == "safetensors"


def test_half_precision_is_written_as_ours(tmp_path, capsys):
    write_tensors(tmp_path / "a.pth", {"stem.weight": np.float64([1.5])}, CheckpointInfo())
    converted(capsys, tmp_path / "a.pth", tmp_path / "a.ckpt")
    assert read_tensors(tmp_path / "a.ckpt").tensors["conv.weight"].dtype == np.float32


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nnum_classes: 3\n")
    return tmp_path / "model.yaml"


def test_a_model_yaml_says_what_is_not_filled(tmp_path, capsys, config):
    misshapen = {**OURS, "bn.beta": np.zeros(5, np.float32), "other.weight": np.zeros(1, np.float32)}
    write_tensors(tmp_path / "a.pth", misshapen, CheckpointInfo())
    report = converted(capsys, tmp_path / "a.pth", tmp_path / "a.ckpt", "--config", config)
    assert report["left_out"]["bn.beta"] == "its shape is (5,), in the model YAML's network (4,)"
    assert {"bn.beta", "bn.moving_mean"} < set(report["not_filled"]) and report["written"] == 2
    assert not read_checkpoint(tmp_path / "a.ckpt")[1].fingerprint


def test_a_whole_model_is_one_that_other_commands_load(tmp_path, capsys, config):
    from cross_silo.checkpoint.network import federated_tensors, load_weights
    from cross_silo.config.model import load_model, make_detector

    network = make_detector(load_model(config)).build_network()
    weights = {name: tensor.asnumpy() + 1 for name, tensor in federated_tensors(network).items()}
    given = {f"backbone.{name}": value for name, value in weights.items()}  # which its map_pretrained knows
    write_tensors(tmp_path / "a.pth", given, CheckpointInfo())
    report = converted(capsys, tmp_path / "a.pth", tmp_path / "a.ckpt", "--config", config, namings=OTHERS)
    assert report["not_filled"] == [] and report["left_out"] == {}
    found, info = read_checkpoint(tmp_path / "a.ckpt")
    assert info.fingerprint and set(info.kinds) == set(weights)
    load_weights(network, found, info, "a.ckpt")
    for name, tensor in federated_tensors(network).items():
        np.testing.assert_array_equal(tensor.asnumpy(), weights[name])


def test_mistakes_are_named(tmp_path, config):
    write_tensors(tmp_path / "a.pth", {"x": np.zeros(1)}, CheckpointInfo())
    write_tensors(tmp_path / "two.pth", {"conv.weight": np.zeros(1), "stem.weight": np.zeros(1)}, CheckpointInfo())

    write_tensors(tmp_path / "one.pth", {"stem.weight": np.zeros(1)}, CheckpointInfo())

    def message(source, target, *arguments, namings=NAMINGS):
        with pytest.raises(UserError) as caught:
            main(namings, ["--in", str(tmp_path / source), "--out", str(tmp_path / target), *map(str, arguments)])
        return str(caught.value)

    assert "none of its 1 tensors (such as 'x') has a name of stem, whole" in message("a.pth", "b.ckpt")
    assert "expected one of .ckpt" in message("a.pth", "b.bin")
    assert "'conv.weight' and 'stem.weight' both become 'conv.weight'" in message("two.pth", "b.ckpt")
    assert "--names keep" in message("a.pth", "b.ckpt", "--names", "keep", "--config", config)
    other = message("a.pth", "b.ckpt", "--names", "other", "--config", config, namings=OTHERS)
    assert other.startswith("--names other is not of the detector of ")
    assert "no tensor fits the network" in message("one.pth", "b.ckpt", "--config", config)
    assert "none.pth: No such file" in message("none.pth", "b.ckpt")
    assert not (tmp_path / "b.ckpt").exists()


def test_the_table_groups_what_is_left_out_by_its_reason(tmp_path, capsys):
    many = {f"x{i}[/red]": np.zeros(1) for i in range(9)}
    write_tensors(tmp_path / "a.pth", {**THEIRS, **many}, CheckpointInfo())
    assert main(NAMINGS, ["--in", str(tmp_path / "a.pth"), "--out", str(tmp_path / "a.ckpt")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "9: x0[/red], x1[/red], x2[/red], ...: unknown" in text
        and "12 tensors, PyTorch" in text
        and text.endswith("a.ckpt")
    )
