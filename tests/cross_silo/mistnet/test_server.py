"""MistNet jobs of real processes: features are collected, trained on, and survive the kill of anybody."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tests.support.mistnet_job import WEIGHTS, MistNetJob
from tests.support.numpy_trainer import NumpyTrainer

LONG = pytest.mark.long
POINTS = ("writing:7", "committing:2", "committing:4", "committed:3")


@pytest.fixture
def job_of(tmp_path, redis_address, free_port):
    made = []

    def make(**settings):
        made.append(MistNetJob(tmp_path, redis_address, free_port, **settings))
        return made[-1]

    yield make
    for job in made:
        job.close()


def trained(epochs=3):
    trainer = NumpyTrainer("pooled", shapes={name: array.shape for name, array in WEIGHTS.items()})
    trainer.set_weights(WEIGHTS)
    trainer.train(5 * epochs, lambda record: None)
    before = {name: array for name, array in WEIGHTS.items() if name.startswith("backbone.conv1.")}
    return {**trainer.get_weights(), **before}


def assert_finished(job, epochs=3):
    epoch, model = job.model()
    assert epoch == epochs
    for name, array in trained(epochs).items():
        assert np.array_equal(model[name], array)
    summary = job.summary()
    assert summary["state"] == "finished" and summary["good_rounds"] == epochs
    assert [record["round"] for record in summary["rounds"]] == list(range(1, epochs + 1))
    assert list(summary["evaluations"]) == [str(epoch) for epoch in range(epochs + 1)]
    return summary


def test_a_job_from_its_features_to_its_end(job_of):
    job = job_of(evaluation={"annotations": "unread.json", "image_dir": "unread"})
    server, trainer = job.server(), job.trainer()
    silos = [job.silo(0), job.silo(1)]
    assert [job.status(process) for process in (*silos, server, trainer)] == [0, 0, 0, 0]
    summary = assert_finished(job)
    assert job.whole() == [0, 1]
    assert summary["bytes_up"] == 2 * 205_000 == sum(told["of"] for told in summary["features"].values())
    assert summary["bytes_down"] > 2 * 100
    first = summary["rounds"][0]
    assert first["samples"] == 14 and first["losses"]["server"] > 0 and first["AP50"] == 0.05
    assert summary["best"]["round"] == 3


@pytest.mark.parametrize("fault", ["written:9", *(pytest.param(f, marks=LONG) for f in POINTS)])
def test_killed_server_in_mid_upload(job_of, fault):
    job = job_of()
    server, trainer = job.server(fault), job.trainer()
    silos = [job.silo(0), job.silo(1)]
    assert job.status(server) == -9
    server = job.server()
    assert [job.status(process) for process in (*silos, server, trainer)] == [0, 0, 0, 0]
    assert_finished(job)
    assert job.whole() == [0, 1]


def test_killed_uploader_goes_on_where_it_was(job_of):
    job = job_of(lease=2.0)
    server, trainer = job.server(), job.trainer()
    other, killed = job.silo(1), job.silo(0, fault="chunk:8")
    assert job.status(killed) == -9
    assert job.whole() in ([], [1])
    received = (job.checkpoints / "features" / "silo_0" / "features_0.mindrecord.part").stat().st_size
    assert received == 80_000
    again = job.silo(0)
    while job.status(again):  # the lease of the one that was killed holds for two seconds more
        again = job.silo(0)
    assert [job.status(process) for process in (other, server, trainer)] == [0, 0, 0]
    assert_finished(job)


@pytest.mark.parametrize("fault", ["saved:2", *(pytest.param(f, marks=LONG) for f in ("step:7", "saving:2"))])
def test_killed_trainer_is_started_again(job_of, fault):
    job = job_of()
    server, trainer = job.server(), job.trainer(fault)
    silos = [job.silo(0), job.silo(1)]
    assert job.status(trainer) == -9
    trainer = job.trainer()
    assert [job.status(process) for process in (*silos, server, trainer)] == [0, 0, 0, 0]
    assert_finished(job)


@LONG
def test_killed_server_while_training(job_of):
    job = job_of()
    server, trainer = job.server(), job.trainer(step_seconds=0.4)
    silos = [job.silo(0), job.silo(1)]
    job.wait(lambda: len(list(job.checkpoints.glob("*_iteration_1_*.ckpt"))) > 0, "the first epoch")
    server.kill()
    server = job.server()
    assert [job.status(process) for process in (*silos, server, trainer)] == [0, 0, 0, 0]
    assert_finished(job)


@LONG
def test_by_way_of_objects_that_are_removed_at_the_end(job_of, tmp_path):
    objects = tmp_path / "objects"
    job = job_of(transmitter={"channel": "file", "agg_data_path": f"file://{objects}", "remove_at_end": True})
    server, trainer = job.server("committing:2"), job.trainer()
    silos = [job.silo(0), job.silo(1)]
    assert job.status(server) == -9
    assert len(list((objects / job.name).rglob("shard-*"))) >= 2
    server = job.server()
    assert [job.status(process) for process in (*silos, server, trainer)] == [0, 0, 0, 0]
    assert_finished(job)
    assert job.whole() == [0, 1]
    assert not list(objects.rglob("shard-*"))


@LONG
def test_enough_silos_at_the_deadline(job_of):
    job = job_of(mistnet={"min_silos": 1})
    server, silo = job.server(), job.silo(0)
    job.wait_log("silo_0.log", "delivered")
    server.kill()
    content = yaml.safe_load(job.yaml.read_text())
    content["mistnet"]["deadline"] = 0.1
    job.yaml.write_text(yaml.safe_dump(content))
    server = job.server()
    job.wait_log("server.log", "the training begins without the others")
    late = job.silo(1)
    assert job.status(late) == 2 and "come too late" in job.log("silo_1.log")
    trainer = job.trainer()
    assert [job.status(process) for process in (silo, server, trainer)] == [0, 0, 0]
    assert job.summary()["rounds"][0]["samples"] == 7


@LONG
def test_a_loss_that_is_not_finite_ends_the_job(job_of):
    job = job_of()
    server, trainer = job.server(), job.trainer(nan_at=6)
    silos = [job.silo(0), job.silo(1)]
    assert [job.status(process) for process in (*silos, server, trainer)] == [1, 1, 1, 1]
    assert "step 6: total_loss: nan" in job.summary()["reason"]
