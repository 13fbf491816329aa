"""A job is started by its plan's commands, its model delivered, and it is ended; numpy trains."""

import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.data.manifest import write_manifest
from cross_silo.errors import UserError
from cross_silo.launch.ending import end_roles
from cross_silo.launch.free_ports import free_ports
from cross_silo.launch.record import read_json
from cross_silo.launch.role import running_roles
from cross_silo.sedna.deliverer import PLAN, RESULT, delivery, load_plan
from cross_silo.sedna.launch import delete, run
from cross_silo.sedna.roles import Trial
from cross_silo.sedna.status_document import status_document
from tests.support.federation import Federation, manifest
from tests.support.sedna_manifests import changed, planned, put

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 180.0


class Site:
    """A machine on which a job of manifests is tried."""

    def __init__(self, directory):
        self.directory, self.run_dir = directory, directory / "run"
        self.redis, self.rest, self.port = free_ports(3)
        (directory / "none").mkdir()
        federation = Federation(directory / "none", f"127.0.0.1:{self.redis}", self.port)
        federation.name, federation.checkpoints = "yolo", self.run_dir / "checkpoints"
        self.run_dir.mkdir()
        federation.write_initial()
        for number in (1, 2):
            (directory / "data" / str(number) / "COCO").mkdir(parents=True)
            write_manifest(str(directory / "data" / str(number) / "COCO"), manifest(("cell",)))

    def planned(self, changes=None):
        """The job's plan, whose server has round 0's model already and whose workers have numpy's trainer."""
        shards = {f"data_{number}.spec.format": "mindrecord" for number in (1, 2)}
        manifests = changed({"model.spec.url": "/model/final.ckpt", **shards, **(changes or {})})
        put(manifests, "job.spec.pretrainedModel", None)
        paths = {f"/{name}": str(self.directory / name) for name in ("data", "model")}
        found = planned(
            self.directory,
            manifests,
            trial=Trial(path_map=paths, port=self.port),
            redis_address=f"127.0.0.1:{self.redis}",
            scheduler_manage_address=f"127.0.0.1:{self.rest}",
        )
        plan = found.plan
        scheduler, server = plan.aggregator.commands
        place = server.index("--config")
        aggregator = dataclasses.replace(plan.aggregator, commands=(scheduler, server[:place] + server[place + 2 :]))
        launcher = (sys.executable, "-m", "tests.support.numpy_launch")
        trainers = tuple(
            dataclasses.replace(trainer, commands=tuple((*launcher, *command[2:]) for command in trainer.commands))
            for trainer in plan.trainers
        )
        return dataclasses.replace(found, plan=dataclasses.replace(plan, aggregator=aggregator, trainers=trainers))

    def running(self):
        """Names of the job's roles that run."""
        return [role.name for role in running_roles() if role.role_dir.parent == self.run_dir]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    made = Site(tmp_path)
    yield made
    end_roles([role for role in running_roles() if role.role_dir.parent == made.run_dir], polite_seconds=5)


def wait(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)


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
