"""Initial models: where the classes come from, what a pre-trained file fills, what is written."""

import dataclasses
import hashlib
import json

import mindspore
import numpy as np
import pytest

from cross_silo import runtime
from cross_silo.checkpoint import CheckpointInfo, content_sha256, newest_checkpoint, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.init_model import main
from cross_silo.data.coco import Category
from cross_silo.data.manifest import Manifest, write_manifest
from cross_silo.errors import UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Arguments of a command that makes a tiny model in tmp_path/ckpt."""
    # The device is a process's for good once anything ran on it, as other tests have here.
    monkeypatch.setattr(runtime, "start", lambda seed, device: mindspore.set_seed(seed))
    (tmp_path / "model.yaml").write_text(
        "detector: tests.support.tiny_detector\nimg_height: 32\nimg_width: 32\nseed: 7\n"
    )
    return ["--config", str(tmp_path / "model.yaml"), "--checkpoint_dir", str(tmp_path / "ckpt"), "--fl_name", "job"]


def initial(tmp_path, name="job"):
    return read_checkpoint(newest_checkpoint(tmp_path / "ckpt", name))


def annotations(path, names):
    categories = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(names)]
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return str(path)


def test_writes_round_0_of_a_new_network(tmp_path, job, capsys):
    main([*job, "--annotations", annotations(tmp_path / "a.json", ["red", "green"])])
    weights, info = initial(tmp_path)
    assert (info.fl_name, info.round, info.pre_trained_sha256, info.classes) == ("job", 0, "", ("red", "green"))
    assert info.initial_sha256 == content_sha256(weights)
    assert info.kinds == {
        "conv.weight": "trainable",
        "bn.gamma": "trainable",
        "bn.beta": "trainable",
        "bn.moving_mean": "statistic",
        "bn.moving_variance": "statistic",
        "threshold": "trainable",
    }
    assert sorted(weights) == sorted(info.kinds)  # and not the int32 counter
    assert weights["conv.weight"].shape == (4, 3, 3, 3) and weights["conv.weight"].std() > 0
    assert "red, green" in capsys.readouterr().out


def test_the_seed_alone_decides_the_weights(tmp_path, job):
    sums = []
    for seed in (1, 1, 2):
        config = tmp_path / "model.yaml"
        config.write_text(f"detector: tests.support.tiny_detector\nimg_height: 32\nimg_width: 32\nseed: {seed}\n")
        name = f"job{len(sums)}"
        main([*job[:-1], name, "--num_classes", "3"])
        sums.append(initial(tmp_path, name)[1].initial_sha256)
    assert sums[0] == sums[1] != sums[2]


def test_a_pre_trained_file_fills_what_agrees_in_name_and_shape(tmp_path, job, capsys):
    conv = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float16)
    given = {"backbone.conv.weight": conv, "bn.gamma": np.ones(9, np.float32)}
    given.update({name: np.ones(2, np.float32) for name in ("head.w", "other.w")})
    path = tmp_path / "resnet.ckpt"
    write_checkpoint(path, given, CheckpointInfo())
    main([*job, "--num_classes", "3", "--pre_trained", str(path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["matched"] == 1 and report["tensors"] == 6
    assert report["unknown"] == ["head.w"] and report["absent"] == ["other.w"]
    assert report["by_part"] == {"conv": [1, 1], "bn": [0, 4], "threshold": [0, 1]}
    assert sorted(report["not_filled"]) == ["bn.beta", "bn.gamma", "bn.moving_mean", "bn.moving_variance", "threshold"]
    assert report["misshapen"] == {"bn.gamma": "bn.gamma has shape (9,), expected (4,)"}
    assert report["class_note"] == ""
    weights, info = initial(tmp_path)
    np.testing.assert_array_equal(weights["conv.weight"], conv.astype(np.float32))
    assert info.pre_trained_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.initial_sha256 == content_sha256(weights)


def test_the_model_yaml_may_name_the_pre_trained_file(tmp_path, job):
    write_checkpoint(tmp_path / "p.ckpt", {"threshold": np.array(5, np.float32)}, CheckpointInfo())
    with open(tmp_path / "model.yaml", "a") as config:
        config.write(f"pre_trained: {tmp_path / 'p.ckpt'}\n")
    main([*job, "--num_classes", "3"])
    assert initial(tmp_path)[0]["threshold"] == 5


def test_a_model_of_another_number_of_classes_gives_all_but_its_class_layers(tmp_path, job, capsys):
    config = tmp_path / "model.yaml"
    config.write_text("detector: tests.support.tiny_detector:WithClassLayer\nimg_height: 32\nimg_width: 32\n")
    three = annotations(tmp_path / "three.json", ["red", "green", "blue"])
    main([*job, "--annotations", three])
    first = str(newest_checkpoint(tmp_path / "ckpt", "job"))
    assert "random and frozen for good, 1: classes" in " ".join(capsys.readouterr().out.split())

    main([*job[:-1], "two", "--num_classes", "2", "--pre_trained", first, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["class_note"] == ("classes: made anew for 2 classes; the checkpoint has 3 classes (red, green, blue)")
    assert report["not_filled"] == ["classes"] == list(report["misshapen"])
    assert initial(tmp_path, "two")[0]["classes"].shape == (2, 4)

    same = annotations(tmp_path / "same.json", ["blue", "green", "red"])
    main([*job[:-1], "three", "--annotations", same, "--pre_trained", first])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "frozen for good" not in out
    assert "filled in the checkpoint's order of classes" in out and "this model blue, green, red" in out
    np.testing.assert_array_equal(initial(tmp_path, "three")[0]["classes"], read_checkpoint(first)[0]["classes"])


def test_a_directory_with_checkpoints_of_the_job_is_refused(tmp_path, job):
    main([*job, "--num_classes", "3"])
    with pytest.raises(UserError, match="holds checkpoints of job 'job' up to round 0"):
        main([*job, "--num_classes", "3"])
    main([*job[:-1], "other", "--num_classes", "3"])


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--num_classes", "3", "--pre_trained", "nowhere.ckpt"], "nowhere.ckpt: No such file"),
        ([], "num_classes is 0"),
        (["--dataset_dir", "nowhere"], "nowhere"),
        (["--annotations", "nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_named(job, arguments, reason):
    with pytest.raises(UserError, match=reason):
        main([*job, *arguments])


def test_the_job_and_its_classes_come_from_the_federated_yaml(tmp_path, job):
    coco = annotations(tmp_path / "val.json", ["red", "green", "blue"])
    (tmp_path / "fl.yaml").write_text(f"fl_name: mine\nevaluation: {{annotations: {coco}, image_dir: {tmp_path}}}\n")
    main([*job[:-2], "--yaml_config", str(tmp_path / "fl.yaml")])
    assert initial(tmp_path, "mine")[1].classes == ("red", "green", "blue")
    with pytest.raises(UserError, match="--fl_name is 'job'"):
        main([*job, "--yaml_config", str(tmp_path / "fl.yaml")])


def write_shardless_manifest(directory, names):
    values = {field.name: 0 for field in dataclasses.fields(Manifest)}
    values["categories"] = tuple(Category(i + 1, name, i) for i, name in enumerate(names))
    values.update(boxes_by_class=(), shards=())
    directory.mkdir()
    write_manifest(str(directory), Manifest(**values))


def test_classes_of_mindrecord_directories_must_agree(tmp_path, job):
    for silo, names in ((0, ["red", "green"]), (1, ["red", "green"])):
        write_shardless_manifest(tmp_path / f"mindrecord_{silo}", names)
    main([*job, "--dataset_dir", str(tmp_path)])
    assert initial(tmp_path)[1].classes == ("red", "green")
    write_shardless_manifest(tmp_path / "mindrecord_2", ["red", "blue"])
    with pytest.raises(UserError, match="mindrecord_2: its classes are red, blue"):
        main([*job[:-1], "other", "--dataset_dir", str(tmp_path)])
