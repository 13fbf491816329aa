"""Several servers, by real processes: the model is that of one server, whatever is killed, and no round is lost."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from cross_silo.launch.free_ports import adjoining_ports
from tests.support.federation import Federation, reference

SAMPLES = {"silo_0": 10, "silo_1": 30, "silo_2": 20}
ROUNDS = 3


@pytest.fixture
def federation(tmp_path, redis_address):
    made = []

    def make(servers=2, rounds=ROUNDS, **settings):
        job = Federation(tmp_path, redis_address, adjoining_ports(servers), rounds, servers, **settings)
        made.append(job)
        return job

    yield make
    for each in made:
        each.close()


def start_servers(job):
    others = [job.shard_server(index) for index in range(1, job.servers)]
    return [job.server(), *others]


def start_workers(job, count=2, **trainer):
    return [job.worker(i, num_samples=SAMPLES[f"silo_{i}"], **trainer) for i in range(count)]


def assert_all_end_well(job, *processes):
    """Every process ends by itself: none is left, none fails."""
    assert [job.status(process) for process in processes] == [0] * len(processes), job.log("server.log")


def assert_job(job, rounds=ROUNDS, silos=2, participants=None):
    """Every round is good once, and the model is that of a run without a fault."""
    summary = job.summary()
    good = [record for record in summary["rounds"] if record["good"]]
    assert [record["round"] for record in good] == list(range(1, rounds + 1))
    assert (summary["state"], summary["good_rounds"]) == ("finished", rounds)
    number, weights = job.model()
    assert number == rounds
    samples = {silo: SAMPLES[silo] for silo in sorted(SAMPLES)[:silos]}
    for name, array in reference(samples, rounds, participants=participants).items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-6, atol=1e-6)
    return good


@pytest.mark.parametrize("servers", [2, 3])
def test_the_model_is_that_of_one_server(federation, servers):
    job = federation(servers)
    processes = start_servers(job)
    both = start_workers(job)
    assert_all_end_well(job, *both, *processes)
    assert_job(job)
    assert job.summary()["failed_attempts"] == 0


def killed(job, process):
    job.wait(lambda: process.poll() is not None, "the kill")
    assert process.returncode == -signal.SIGKILL


def faults(points, *always):
    """Run a test with each fault: those in ``always``, and the others in the long suite."""
    marks = {name: () if name in always else (pytest.mark.long,) for name in points}
    return pytest.mark.parametrize(
        "fault", [pytest.param(point, id=name, marks=marks[name]) for name, point in points.items()]
    )


SHARD_SERVER_FAULTS = {
    "with a shard expected": "expected:3",
    "while a shard is received": "received:3",
    "before a shard is in the sum": "adding:3",
    "with one shard in the sum": "added:3",
    "before the mean": "preparing:2",
    "with the mean": "prepared:2",
    "while the mean is fetched": "reading:4",
    "before it is the good one": "committing:2",
    "after it is the good one": "committed:2",
}


@faults(SHARD_SERVER_FAULTS, "while a shard is received", "with the mean")
def test_another_server_killed_in_round_2(federation, fault):
    job = federation()
    victim = job.shard_server(1, fault=fault)
    server = job.server()
    both = start_workers(job)
    killed(job, victim)
    again = job.shard_server(1)
    assert_all_end_well(job, *both, server, again)
    assert_job(job)
    assert job.summary()["failed_attempts"] <= 1


FIRST_SERVER_FAULTS = {
    "while the second silo joins": "joined:4",
    "while a shard is received": "received:3",
    "before the first shard is in the sum": "adding:3",
    "with one shard in the sum": "added:3",
    "while the last shard is added": "adding:4",
    "before the checkpoint": "saving:2",
    "with the checkpoint in place": "syncing:4",
    "after the checkpoint": "saved:2",
    "after the round": "published:3",
}


@faults(FIRST_SERVER_FAULTS, "with one shard in the sum", "after the checkpoint")
def test_the_first_server_killed_in_round_2(federation, fault):
    job = federation()
    other = job.shard_server(1)
    server = job.server(fault=fault)
    both = start_workers(job)
    killed(job, server)
    again = job.server()
    assert_all_end_well(job, *both, again, other)
    assert_job(job)


def test_a_server_that_is_away_is_waited_for_and_named(federation):
    job = federation(round={"start_fl_job_time_window": 1500, "max_consecutive_failures": 2})
    server, other = start_servers(job)
    both = start_workers(job, step_seconds=0.2)
    job.wait_log("worker_0.log", "epoch: 2 step: 1 ")
    other.kill()
    assert job.status(server) == 1
    assert [job.status(process) for process in both] == [1, 1]
    log = job.log("server.log")
    assert "attempt 1 failed: server_1 at 127.0.0.1:" in log
    assert "startFLJob window of 1.5 s (round.start_fl_job_time_window) ended; server_1 at 127.0.0.1:" in log
    assert job.summary()["state"] == "failed"
    assert job.summary()["good_rounds"] == job.model()[0]


@pytest.mark.parametrize("point", ["uploading:2", pytest.param("training:8", marks=pytest.mark.long)])
def test_rounds_go_on_without_a_worker_killed_in_round_2(federation, point):
    job = federation(round={"start_fl_job_threshold": 3, "min_clients": 2}, lease=4.0)
    servers = start_servers(job)
    others = start_workers(job)
    victim = job.worker(2, num_samples=20, fault=point)
    killed(job, victim)
    assert_all_end_well(job, *others, *servers)
    participants = [[each["silo"] for each in r["participants"]] for r in job.summary()["rounds"] if r["good"]]
    assert [len(silos) for silos in participants] == [3, 2, 2]
    assert_job(job, silos=3, participants=participants)
    assert job.summary()["failed_attempts"] == 0


def test_a_disk_that_takes_no_checkpoint_fails_rounds_by_name(federation):
    job = federation(round={"max_consecutive_failures": 1000})
    servers = start_servers(job)
    both = start_workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "epoch: 2 step: 1 ")
    aside = job.checkpoints.with_name("aside")
    job.checkpoints.rename(aside)
    job.wait_log(
        "worker_0.log", "round 2, attempt 1 failed: round 2 attempt 1 failed: its checkpoint cannot be written: "
    )
    aside.rename(job.checkpoints)
    assert_all_end_well(job, *both, *servers)
    assert_job(job)
