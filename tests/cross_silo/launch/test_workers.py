"""What run_worker checks before a worker starts, and what it hands over."""

import os
from pathlib import Path

import pytest
import yaml

from cross_silo.config.federated import load_federated
from cross_silo.data.manifest import Manifest, write_manifest
from cross_silo.errors import UserError
from cross_silo.launch.workers import WorkerPlan, worker_roles
from tests.support.auth_files import make_auth


@pytest.fixture
def files(tmp_path):
    (tmp_path / "job.yaml").write_text("fl_name: job\n")
    (tmp_path / "model.yaml").write_text("detector: faster_rcnn\nnum_classes: 2\n")
    manifest = Manifest((), 1, 0, 0, (), 0, 0, {}, {}, True, "train.json", "", ())
    for index in range(3):
        directory = tmp_path / "data" / f"mindrecord_{index}"
        directory.mkdir(parents=True)
        write_manifest(str(directory), manifest)
    return tmp_path


@pytest.fixture
def roles(files):
    """From changed arguments to the roles."""

    def make(**changes):
        settings = {
            "yaml_config": str(files / "job.yaml"),
            "config": str(files / "model.yaml"),
            "dataset_path": files / "data",
            "http_server_address": "127.0.0.1:6668",
            "run_dir": files / "run",
        }
        config = load_federated(settings["yaml_config"], changes.pop("auth_dir", ""))
        return worker_roles(WorkerPlan(**{**settings, **changes}), config)

    return make


def flags(role):
    arguments = list(role.command[3:])
    return dict(zip(arguments[::2], arguments[1::2]))


def test_each_worker_has_its_index_silo_and_data(roles, files):
    first, second = roles(count=2, first=1)
    assert (first.name, second.name) == ("worker_1", "worker_2")
    assert first.log_path == "worker_1/worker.log"
    assert flags(second) == {
        "--yaml_config": str(files / "job.yaml"),
        "--config": str(files / "model.yaml"),
        "--worker_index": "2",
        "--silo": "silo_2",
        "--dataset_dir": str(files / "data" / "mindrecord_2"),
        "--http_server_address": "127.0.0.1:6668",
        "--run_dir": str(files / "run"),
    }


def test_a_single_worker_may_name_its_silo_and_check_its_pre_trained(roles, files):
    (files / "p.ckpt").write_bytes(b"x")
    (role,) = roles(silo="hospital", pre_trained=str(files / "p.ckpt"))
    assert flags(role)["--silo"] == "hospital"
    assert flags(role)["--pre_trained"] == str(files / "p.ckpt")


def test_a_silo_without_its_certificate_is_not_started(roles, files):
    (files / "job.yaml").write_text("silos: [silo_0, silo_1]\nauth: {mode: mtls, dir: nowhere}\n")
    with pytest.raises(UserError, match="private key nowhere/silo_0.key: No such file"):
        roles(count=2)
    auth = make_auth(files / "auth", ("silo_0",))
    with pytest.raises(UserError, match="private key .*auth/silo_1.key: No such file"):
        roles(count=2, auth_dir=str(auth))
    assert len(roles(auth_dir=str(auth))) == 1
    assert len(roles(auth_dir=str(auth), http_server_address="fl.example.org:6668")) == 1


def test_cores_are_shared_unless_the_user_says(roles, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(9)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [role.environment for role in roles(count=2)] == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert roles(count=2)[0].environment == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert roles(count=2)[0].environment == {}
    assert roles(count=2, threads=3)[0].environment == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"silo": "a", "count": 2}, "--silo names one silo, but --local_worker_num is 2"),
        ({"count": 3}, "--local_worker_num is 3, but the job of .*job.yaml has 2 silos"),
        ({"first": 2, "count": 2}, "mindrecord_3: no such directory"),
        ({"dataset_path": Path("/nowhere")}, "--dataset_path is /nowhere: no such directory"),
        ({"http_server_address": "10.0.0.1:6668"}, "--http_server_address is '10.0.0.1', which other machines reach"),
        ({"pre_trained": "gone.ckpt"}, "--pre_trained is gone.ckpt: no such file"),
        ({"config": "gone.yaml"}, "gone.yaml: No such file"),
    ],
)
def test_what_cannot_work_is_refused_by_its_flag(roles, changes, message):
    with pytest.raises(UserError, match=message):
        roles(**changes)


def test_an_unfinished_shard_is_refused(roles, files):
    (files / "data" / "mindrecord_1" / "manifest.json").unlink()
    with pytest.raises(UserError, match="mindrecord_1: has no manifest.json"):
        roles(count=2)


def test_a_silo_that_the_job_does_not_name_is_refused(roles, files):
    (files / "job.yaml").write_text("silos: [north, south]\n")
    with pytest.raises(UserError, match="silos does not name silo_0; expected one of north, south"):
        roles()
    assert flags(roles(silo="north")[0])["--silo"] == "north"


def test_each_silo_may_have_a_validation_set(roles, files):
    for index in range(2):
        (files / f"val_{index}.json").write_text("{}")
        (files / f"images_{index}").mkdir()
    paths = {"val_annotations": str(files / "val_{i}.json"), "val_image_dir": str(files / "images_{i}")}
    for index, role in enumerate(roles(count=2, **paths)):
        assert flags(role)["--val_annotations"] == str(files / f"val_{index}.json")
        assert flags(role)["--val_image_dir"] == str(files / f"images_{index}")
    one = roles(val_annotations=str(files / "val_1.json"), val_image_dir=str(files / "images_1"))
    assert flags(one[0])["--val_annotations"] == str(files / "val_1.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_annotations": "val.json"}, "--val_annotations is given without --val_image_dir"),
        ({"val_image_dir": "images"}, "--val_image_dir is given without --val_annotations"),
        ({"val_annotations": "val.json", "val_image_dir": ".", "count": 2}, "one file for 2 silos; expected .*{i}"),
        ({"val_annotations": "nowhere_{i}.json", "val_image_dir": "."}, "--val_annotations.*nowhere_0.json"),
        ({"val_annotations": __file__, "val_image_dir": "nowhere_{i}"}, "--val_image_dir is nowhere_0: no such"),
    ],
)
def test_a_validation_set_that_cannot_be_meant(roles, changes, message):
    with pytest.raises(UserError, match=message):
        roles(**changes)


@pytest.fixture
def mistnet_roles(roles, files):
    """The same for a MistNet job with a cut."""

    def make(cut, **changes):
        content = {"algorithm": "mistnet", "mistnet": {"cut_layer": cut}}
        (files / "job.yaml").write_text(yaml.safe_dump(content))
        return roles(**changes)

    return make


def test_a_mistnet_job_has_workers_of_its_own(roles, mistnet_roles):
    assert roles()[0].command[2] == "cross_silo.training.worker"
    [role] = mistnet_roles("layer1")
    assert role.command[2] == "cross_silo.mistnet.edge"


def test_a_mistnet_job_that_cannot_work(mistnet_roles):
    with pytest.raises(UserError, match="mistnet.cut_layer: found 4; expected one of stem, layer1 with fast-rcnn"):
        mistnet_roles(4)
    with pytest.raises(UserError, match="--val_annotations is given, but with algorithm mistnet a silo has no model"):
        mistnet_roles("stem", val_annotations="val.json", val_image_dir="val")
