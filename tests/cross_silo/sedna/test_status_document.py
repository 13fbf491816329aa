"""A job's status in Sedna's shape: from a live store, from what a job left behind, and before it began."""

import dataclasses
import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from cross_silo.launch.proc import start_time
from cross_silo.launch.record import write_json
from cross_silo.report.summary import write_summary
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.plan import JobPlan, Place, aggregator_plan, trainer_plan
from cross_silo.sedna.status_document import age, status_document, status_table, status_yaml

NOW = 1_769_860_600.0
STARTED = NOW - 600
STATUS_FIELDS = {"phase", "active", "succeeded", "failed", "startTime", "completionTime", "conditions"}


@pytest.fixture
def plan(tmp_path, free_port):
    place = Place(tmp_path, f"127.0.0.1:{free_port}")  # no Redis there: the run directory is all there is
    common = {"job_name": "yolo-v5", "participants_count": 2, "exit_round": 5, "model_url": "/model/yolov5.pth"}
    trainers = [
        trainer_plan(
            Settings(**common, train_dataset_url=f"/data/{index}", dataset_name=f"coco-{index}"),
            place,
            index,
            node=f"edge-{index}",
        )
        for index in range(2)
    ]
    aggregator = aggregator_plan(Settings(**common), place, node="cloud")
    return JobPlan("yolo-v5", "default", "yolo-v5", str(tmp_path), "yolo-model", aggregator, tuple(trainers))


def begin(store):
    settings = {"silos": 2, "lease": 20.0, "round": {"start_fl_job_threshold": 2}}
    store.begin(
        {
            **{"fl_name": "yolo-v5", "instance": "i1", "engine": "native", "fl_iteration_num": 5, "started": STARTED},
            **{"iteration": 3, "attempt": 1, "phase": "training", "good_rounds": 2, "settings": json.dumps(settings)},
        }
    )
    for number in (1, 2):
        participants = [
            {"silo": f"silo_{i}", "samples": 100 + i, "loss": loss, "node": "h:1"} for i, loss in enumerate((0.5, 1.5))
        ]
        store.add_round(
            {
                **{"round": number, "attempt": 1, "good": True, "reason": "", "participants": participants},
                **{"ended": STARTED + 100 * number, "bytes_up": 1, "bytes_down": 1, "seconds": {"round": 5.0}},
            }
        )
    store.add_evaluation(2, {"AP": 0.25, "AP50": 0.5, "AP75": 0.125})


def process(run_dir, role, pid=None, started=None):
    """The record of a process; without a pid, of one that is gone."""
    (Path(run_dir) / role).mkdir(exist_ok=True)
    write_json(Path(run_dir) / role / "process.json", {"pid": pid or 2**22 + 1, "start_time": started or 1})


def live(run_dir, role):
    process(run_dir, role, os.getpid(), start_time(os.getpid()))


def test_before_it_begins(plan, tmp_path):
    document = status_document(tmp_path, plan)
    assert document["status"] == {"phase": "Pending", "active": 0, "succeeded": 0, "failed": 0, "conditions": []}
    assert document["crossSilo"]["state"] == "not begun"
    assert document["crossSilo"]["rounds"] == 5


def test_running(plan, tmp_path, store):
    begin(store)
    store.beat("server", "h:1", {"address": "127.0.0.1:7363", "told": NOW})
    told = {"node": "h:2", "samples": 100, "phase": "training", "iteration": 3, "epoch": 3, "step": 9, "loss": 0.25}
    store.acquire_lease("silo_0", "w0", 20.0, told)
    live(tmp_path, "server_0")
    live(tmp_path, "worker_0")
    process(tmp_path, "worker_1")
    document = status_document(store, plan, NOW)
    assert document["apiVersion"] == "sedna.io/v1alpha1" and document["kind"] == "FederatedLearningJob"
    assert document["metadata"] == {"name": "yolo-v5", "namespace": "default"}
    status = document["status"]
    assert set(status) <= STATUS_FIELDS
    assert (status["phase"], status["active"], status["succeeded"], status["failed"]) == ("Running", 2, 0, 1)
    ended = "2026-01-31T11:50:00Z"
    assert status["startTime"] == "2026-01-31T11:46:40Z"
    assert status["conditions"] == [
        {
            "type": "Training",
            "status": "True",
            "lastProbeTime": ended,
            "lastHeartbeatTime": ended,
            "reason": "DoTraining",
            "message": f"Round 2 reaches at {ended}",
        }
    ]
    ours = document["crossSilo"]
    assert (ours["round"], ours["rounds"], ours["aggregations"], ours["updates"]) == (2, 5, 2, 4)
    assert ours["metrics"] == {"AP50": 0.5, "AP": 0.25}
    assert ours["model"] == {"name": "yolo-model", "url": "/model/yolov5.pth"}
    assert [(node["node"], node["role"], node["phase"]) for node in ours["nodes"]] == [
        ("cloud", "aggregation", "Running"),
        ("edge-0", "train", "Running"),
        ("edge-1", "train", "Failed"),
    ]
    first = ours["nodes"][1]
    assert (first["worker"], first["dataset"], first["samples"], first["loss"]) == ("silo_0", "coco-0", 100, 0.25)


@pytest.mark.parametrize(
    "state, phase, counts, last",
    [
        ("finished", "Succeeded", (0, 3, 0), ("Complete", "", "")),
        ("failed", "Failed", (0, 0, 3), ("Failed", "workerFailed", "disk full")),
        ("stopped", "Failed", (0, 0, 3), ("Failed", "workerFailed", "disk full")),
    ],
)
def test_after_its_end(plan, tmp_path, store, state, phase, counts, last):
    begin(store)
    store.end(state, "" if state == "finished" else "disk full")
    for role in ("server_0", "worker_0", "worker_1"):
        process(tmp_path, role)
    write_summary(tmp_path, store)
    from_store, from_file = status_document(store, plan, NOW), status_document(tmp_path, plan, NOW)
    for document in (from_store, from_file):
        status, ours = document["status"], document["crossSilo"]
        assert set(status) <= STATUS_FIELDS
        assert (status["phase"], *(status[name] for name in ("active", "succeeded", "failed"))) == (phase, *counts)
        condition = status["conditions"][-1]
        assert (condition["type"], condition["reason"], condition["message"]) == last
        assert ("completionTime" in status) == (phase == "Succeeded")
        assert (ours["round"], ours["aggregations"], ours["updates"]) == (2, 2, 4)
    assert [node["samples"] for node in from_file["crossSilo"]["nodes"][1:]] == [100, 101]
    assert [node["loss"] for node in from_file["crossSilo"]["nodes"][1:]] == [0.5, 1.5]


def test_workers_of_other_machines(plan, store):
    """Where there is no process of theirs here, the job's word counts."""
    begin(store)
    store.beat("server", "h:1", {"address": "127.0.0.1:7363", "told": NOW})
    store.acquire_lease("silo_0", "w0", 20.0, {"node": "h:2", "samples": 100, "iteration": 3, "loss": 0.25})
    document = status_document(store, plan, NOW)
    assert [node["phase"] for node in document["crossSilo"]["nodes"]] == ["Running", "Running", "Pending"]
    assert document["status"]["phase"] == "Running"
    store.end("finished", "")
    store.release_lease("silo_0", "w0")
    assert status_document(store, plan, NOW)["status"]["phase"] == "Succeeded"


def test_server_that_died_is_no_end_of_the_job(plan, tmp_path, store):
    begin(store)
    process(tmp_path, "server_0")
    live(tmp_path, "worker_0")
    status = status_document(store, plan, NOW)["status"]
    assert (status["phase"], status["active"], status["failed"]) == ("Running", 1, 1)


def test_all_processes_gone_in_mid_job(plan, tmp_path, store):
    begin(store)
    write_summary(tmp_path, store)
    for role in ("server_0", "worker_0", "worker_1"):
        process(tmp_path, role)
    assert status_document(tmp_path, plan, NOW)["status"]["phase"] == "Failed"


def test_features_are_mistnets_updates(plan, tmp_path, store):
    """A silo has images that it sends, but neither round nor loss; its features stay known after it has left."""
    plan = dataclasses.replace(plan, aggregator=dataclasses.replace(plan.aggregator, algorithm="mistnet"))
    begin(store)
    told = {"node": "h:2", "samples": 100, "phase": "extracting", "iteration": 0, "epoch": 0, "step": 9, "loss": 0.0}
    store.acquire_lease("silo_0", "w0", 20.0, told)
    features = Path(plan.aggregator.checkpoint_dir) / "features"
    (features / "silo_1").mkdir(parents=True)
    write_json(features / "silo_1" / "manifest.json", {"count": 9})
    ours = status_document(store, plan, NOW)["crossSilo"]
    assert (ours["aggregations"], ours["updates"]) == (0, 1)
    nodes = [tuple(node[name] for name in ("phase", "samples", "round", "loss")) for node in ours["nodes"][1:]]
    assert nodes == [("Running", 100, None, None), ("Pending", 9, None, None)]
    write_json(features / "pool.json", {"silos": {"silo_1": "silo_1"}, "images": 9})
    assert status_document(store, plan, NOW)["crossSilo"]["aggregations"] == 1
    store.end("finished", "")
    nodes = status_document(store, plan, NOW)["crossSilo"]["nodes"]
    assert (nodes[2]["phase"], nodes[2]["samples"]) == ("Succeeded", 9)


def test_table(plan, tmp_path, store):
    begin(store)
    live(tmp_path, "server_0")
    lines = status_table(status_document(store, plan, NOW), NOW).split("\n")
    assert lines[0].split() == ["NAME", "STATUS", "ROUND", "ACTIVE", "SUCCEEDED", "FAILED", "AGE"]
    assert lines[1].split() == ["yolo-v5", "Running", "2/5", "1", "0", "0", "10m"]
    assert lines[3].split() == ["NODE", "ROLE", "WORKER", "PHASE", "DATASET", "SAMPLES", "ROUND", "LOSS"]
    assert lines[5].split()[:5] == ["edge-0", "train", "silo_0", "Pending", "coco-0"]
    assert lines[-1] == "aggregations 2 of 4 updates; AP50 0.5000, AP 0.2500"


def test_yaml_is_the_document(plan, tmp_path, store):
    begin(store)
    document = status_document(store, plan, NOW)
    assert yaml.safe_load(status_yaml(document)) == document
    assert json.loads(json.dumps(document)) == document


def test_end_of_a_process_is_seen(plan, tmp_path):
    child = subprocess.Popen(["sleep", "60"])
    process(tmp_path, "server_0", child.pid, start_time(child.pid))
    assert status_document(tmp_path, plan)["status"]["phase"] == "Running"
    child.kill()
    child.wait()
    assert status_document(tmp_path, plan)["status"]["phase"] == "Failed"


def test_age():
    assert [age(seconds) for seconds in (5, 119, 120, 7200, 3 * 86400)] == ["5s", "119s", "2m", "2h", "3d"]
    assert re.fullmatch(r"\d+s", age(-time.time()))
