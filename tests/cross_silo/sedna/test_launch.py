"""A job is started by its plan's commands, its model delivered, and it is ended; numpy trains."""

import dataclasses
import os
import sys
from pathlib import Path

import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.config.federated import load_federated
from cross_silo.config.model import load_model
from cross_silo.errors import UserError
from cross_silo.launch.ending import end_roles
from cross_silo.launch.record import read_json
from cross_silo.launch.role import running_roles
from cross_silo.sedna.deliverer import PLAN, RESULT, delivery, load_plan
from cross_silo.sedna.launch import delete, run
from cross_silo.sedna.status_document import status_document
from tests.support.sedna_site import MistNetSite, Site, wait

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    made = Site(tmp_path)
    yield made
    end(made)


@pytest.fixture
def mistnet_site(tmp_path, monkeypatch, s3_server):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    made = MistNetSite(tmp_path, s3_server)
    yield made
    end(made)


def end(made):
    end_roles([role for role in running_roles() if role.role_dir.parent == made.run_dir], polite_seconds=5)


def test_a_job_trains_delivers_its_model_and_is_shown(site):
    found = site.planned()
    assert run(found, say=lambda line: None) == 0
    assert load_plan(site.run_dir) == found.plan
    assert (site.run_dir / PLAN).stat().st_mode & 0o077 == 0  # urls may hold signatures
    wait((site.run_dir / RESULT).is_file, "the model")
    assert read_json(site.run_dir / RESULT) == {"delivered": True, "model_url": f"{site.directory}/model/final.ckpt"}
    assert delivery(site.run_dir) == {"delivered": True}
    assert read_checkpoint(site.directory / "model" / "final.ckpt")[1].round == 2
    document = status_document(site.run_dir, found.plan)
    assert document["status"]["phase"] == "Succeeded"
    wait(lambda: site.running() == [], "the roles' end")


def test_a_job_that_runs_is_not_started_twice_and_delete_ends_all_of_it(site):
    endless = {"job.spec.aggregationWorker.template.spec.containers.0.env.1.value": "100000"}
    found = site.planned(endless)
    assert run(found, say=lambda line: None) == 0
    assert {"scheduler", "server_0", "worker_0", "worker_1", "deliverer"} <= set(site.running())
    with pytest.raises(UserError, match=r"job 'yolo' runs already in .*: .*expected --delete before"):
        run(found, say=lambda line: None)
    said = []
    delete(site.run_dir, said.append)
    assert "job 'yolo' ended" in said
    assert site.running() == []
    assert (site.directory / "data" / "1" / "COCO" / "manifest.json").is_file()


def test_where_a_worker_does_not_start_nothing_is_left(site):
    found = site.planned()
    first, second = found.plan.trainers
    broken = dataclasses.replace(second, commands=((sys.executable, "-c", "raise SystemExit(3)"),))
    plan = dataclasses.replace(found.plan, trainers=(first, broken))
    with pytest.raises(UserError, match=r"training workers: not started \(status 3\)"):
        run(dataclasses.replace(found, plan=plan), say=lambda line: None)
    assert site.running() == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model.spec.url": "https://host/final.ckpt"}, "MODEL_URL is https://host/final.ckpt: cannot be written"),
        ({"model.spec.url": "/model/yolo.pb"}, "a model is not written as pb; expected ckpt, safetensors, pth, pt"),
        ({"data_1.spec.format": "txt"}, r"Dataset/coco-dataset-1: dataset format\(txt\) has no boxes"),
        (
            {"data_1.spec.url": "/data/8/COCO", "data_2.spec.url": "/data/9/COCO"},
            "coco-dataset-1: .*/data/8/COCO: no such directory; Dataset/coco-dataset-2: .*/data/9/COCO: no such dir",
        ),
    ],
)
def test_what_cannot_run_stops_before_anything_starts(site, changes, message):
    with pytest.raises(UserError, match=message):
        run(site.planned(changes), say=lambda line: None)
    assert site.running() == []


def test_a_mistnet_job_sends_features_by_way_of_its_store_and_delivers_its_model(mistnet_site):
    """Both silos' features go through the store, whose keys are in environments alone."""
    site = mistnet_site
    site.server.bucket("features")
    found = site.planned()
    said = []
    assert run(found, say=said.append) == 0
    wait((site.run_dir / RESULT).is_file, "the model")
    assert delivery(site.run_dir) == {"delivered": True}
    info = read_checkpoint(site.directory / "model" / "final.ckpt")[1]
    assert (info.round, info.mistnet["cut"]) == (3, 4)
    federated = load_federated(found.plan.aggregator.federated_file)
    assert (federated.algorithm, federated.fl_iteration_num, federated.mistnet.batch_size) == ("mistnet", 3, 5)
    assert load_model(found.plan.aggregator.model_file).config.batch_size == 5
    summary = read_json(site.run_dir / "summary.json")
    assert summary["state"] == "finished"
    assert {silo: told["images"] for silo, told in summary["features"].items()} == {"silo_0": 7, "silo_1": 7}
    keys = [entry["Key"] for entry in site.server.s3.list_objects_v2(Bucket="features")["Contents"]]
    assert {key.rpartition("/")[0] for key in keys} == {"fl/yolo/silo_0", "fl/yolo/silo_1"}  # and nothing of the trial
    wait(lambda: site.running() == [], "the roles' end")
    document = status_document(site.run_dir, found.plan)
    assert document["status"]["phase"] == "Succeeded"
    ours = document["crossSilo"]
    assert (ours["round"], ours["rounds"], ours["aggregations"], ours["updates"]) == (3, 3, 1, 2)
    nodes = [tuple(node[name] for name in ("phase", "samples", "round", "loss")) for node in ours["nodes"][1:]]
    assert nodes == [("Succeeded", 7, None, None)] * 2
    secret = site.server.credentials.secret_key
    files = [path for path in site.run_dir.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    assert not any(secret in line for line in said)


def test_a_store_that_does_not_take_features_stops_before_anything_starts(mistnet_site):
    place = {"job.spec.transmitter.s3.aggDataPath": "s3://nowhere/fl"}
    with pytest.raises(UserError, match="s3://nowhere/fl/yolo/probe"):
        run(mistnet_site.planned(place), say=lambda line: None)
    assert mistnet_site.running() == []
