"""kill -9 at every point of a round, by real processes: the model is that of a run without a fault.

Where the participation is not the same, the model is FedAvg by hand over those whom each round's record names.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import time

import numpy as np
import pytest

from cross_silo.coordination import JobStore, connect
from cross_silo.coordination.embedded import EmbeddedRedis
from tests.support.federation import Federation, reference

SAMPLES = {"silo_0": 10, "silo_1": 30, "silo_2": 20}
ROUNDS = 3


@pytest.fixture
def federation(tmp_path, redis_address, free_port):
    made = []

    def make(**settings):
        settings = {"redis_address": redis_address, "rounds": ROUNDS, **settings}
        made.append(Federation(tmp_path, port=free_port, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def start_workers(job, count=2, **trainer):
    return [job.worker(i, num_samples=SAMPLES[f"silo_{i}"], **trainer) for i in range(count)]


def killed(job, process):
    job.wait(lambda: process.poll() is not None, "the kill")
    assert process.returncode == -signal.SIGKILL


def assert_all_end_well(job, *processes):
    """Every process ends by itself: none is left, none fails."""
    assert [job.status(process) for process in processes] == [0] * len(processes), job.log("server.log")


def assert_rounds(job, rounds=ROUNDS, state="finished"):
    """Every round is good once, and counted so by all who count."""
    summary = job.summary()
    good = [record for record in summary["rounds"] if record["good"]]
    assert [record["round"] for record in good] == list(range(1, rounds + 1))
    assert (summary["state"], summary["good_rounds"]) == (state, rounds)
    assert job.model()[0] == rounds
    return good


def assert_model(job, participants=None, silos=2, rounds=ROUNDS):
    samples = {silo: SAMPLES[silo] for silo in sorted(SAMPLES)[:silos]}
    weights = job.model()[1]
    for name, array in reference(samples, rounds, participants=participants).items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-6, atol=1e-6)


def faults(points, *always):
    """Run a test with each fault: those in ``always``, and the others in the long suite."""
    marks = {name: () if name in always else (pytest.mark.long,) for name in points}
    return pytest.mark.parametrize(
        "fault", [pytest.param(point, id=name, marks=marks[name]) for name, point in points.items()]
    )


SERVER_FAULTS = {
    "while the second silo joins": "joined:4",
    "while an update is received": "received:3",
    "before the first update is in the sum": "adding:3",
    "with one update in the sum": "added:3",
    "while the last update is added": "adding:4",
    "before the checkpoint": "saving:2",
    "with the checkpoint beside its place": "syncing:3",
    "with the checkpoint in place": "syncing:4",
    "after the checkpoint": "saved:2",
    "after the round": "published:3",
}


@faults(SERVER_FAULTS, "with one update in the sum", "with the checkpoint in place")
def test_a_server_killed_in_round_2(federation, fault):
    job = federation()
    server = job.server(fault=fault)
    both = start_workers(job)
    killed(job, server)
    again = job.server()
    assert_all_end_well(job, *both, again)
    assert_rounds(job)
    assert_model(job)


WORKER_FAULTS = {
    "joining": "joined:2",
    "training": "training:8",
    "writing its state": "saving:2",
    "before the upload": "saved:2",
    "uploading": "uploading:2",
    "waiting": "pushed:2",
}


@faults(WORKER_FAULTS, "uploading")
def test_a_worker_killed_in_round_2_and_started_again(federation, fault):
    job = federation()
    server = job.server()
    other = job.worker(0, num_samples=10)
    victim = job.worker(1, num_samples=30, fault=fault)
    killed(job, victim)
    again = job.worker(1, num_samples=30)
    assert_all_end_well(job, other, again, server)
    assert_rounds(job)
    assert_model(job)


@faults(WORKER_FAULTS, "training")
def test_rounds_go_on_without_a_worker_killed_in_round_2(federation, fault):
    job = federation(round={"start_fl_job_threshold": 3, "min_clients": 2}, lease=4.0)
    server = job.server()
    others = start_workers(job)
    victim = job.worker(2, num_samples=20, fault=fault)
    killed(job, victim)
    assert_all_end_well(job, *others, server)
    good = assert_rounds(job)
    assert job.summary()["failed_attempts"] == 0
    participants = [[each["silo"] for each in record["participants"]] for record in good]
    # a round that had all its updates is not made without one of them
    in_round_2 = 3 if fault.startswith("pushed") else 2
    assert [len(silos) for silos in participants] == [3, in_round_2, 2]
    assert_model(job, participants, silos=3)
    assert "was made without silo_2: " in job.log("server.log")


def test_a_worker_that_was_away_rejoins_at_the_newest_model(federation, redis_address):
    job = federation(round={"start_fl_job_threshold": 3, "min_clients": 2}, lease=4.0, rounds=10_000)
    server = job.server()
    others = start_workers(job, step_seconds=0.1)
    victim = job.worker(2, num_samples=20, fault="training:8", step_seconds=0.1)
    killed(job, victim)
    job.wait_log("server.log", "round 4 good: 2 silos")
    again = job.worker(2, num_samples=20, step_seconds=0.1)
    job.wait(lambda: job.log("server.log").count("good: 3 silos") >= 3, "rounds with it")
    JobStore(connect(redis_address, start_embedded=False), job.name).request("stop")
    assert_all_end_well(job, *others, again, server)
    rounds = job.summary()["good_rounds"]
    good = assert_rounds(job, rounds, "stopped")
    participants = [[each["silo"] for each in record["participants"]] for record in good]
    assert sorted(participants[1]) == sorted(participants[3]) == ["silo_0", "silo_1"]
    assert_model(job, participants, silos=3, rounds=rounds)
    assert "going on after step 5, trained for round 1" in job.log("worker_2.log")


def test_a_silo_that_is_too_slow_is_told_so_and_goes_on_from_the_newest_model(federation):
    settings = {"start_fl_job_threshold": 3, "min_clients": 1, "update_model_time_window": 400}
    job = federation(round=settings, silos=list(SAMPLES), rounds=6)
    server = job.server()
    others = start_workers(job, step_seconds=0.1)
    slow = job.worker(2, num_samples=20, step_seconds=0.4)
    assert_all_end_well(job, *others, slow, server)
    good = assert_rounds(job, 6)
    assert job.summary()["failed_attempts"] == 0
    late = r"the update of 5 steps \(\d+ s\) is not taken: round \d closed without silo silo_2: did not push before"
    told = late + r"|round \d closed without this silo after [1-5] of 5 steps"
    assert re.search(told, job.log("worker_2.log"))
    for record in good:
        in_time = [each["silo"] for each in record["participants"]]
        assert sorted([*record["left_out"], *in_time]) == ["silo_0", "silo_1", "silo_2"]


def test_a_silo_whose_round_closed_without_it_ends_its_steps_early(federation, redis_address):
    settings = {"start_fl_job_threshold": 2, "min_clients": 1, "update_model_time_window": 100}
    job = federation(round=settings, silos=["silo_0", "silo_1"], rounds=10_000, lease=1.0)
    server = job.server()
    fast = job.worker(0, num_samples=10, step_seconds=0.1)
    slow = job.worker(1, num_samples=30, step_seconds=1.0)
    job.wait_log("worker_1.log", "closed without this silo after")
    job.wait(lambda: job.log("worker_1.log").count("model of round ") >= 2, "the newest model")
    JobStore(connect(redis_address, start_embedded=False), job.name).request("stop")
    assert_all_end_well(job, fast, slow, server)
    told = r"round (\d+) closed without this silo after [1-4] of 5 steps .*(?:\n.*)*?model of round (\d+) received"
    trained_for, received = map(int, re.search(told, job.log("worker_1.log")).groups())
    assert received >= trained_for
    assert_rounds(job, job.summary()["good_rounds"], "stopped")


def test_silos_are_drawn_and_the_others_wait(federation):
    settings = {"start_fl_job_threshold": 3, "select_num_clients": 2}
    job = federation(round=settings, rounds=5)
    server = job.server()
    workers = start_workers(job, 3)
    assert_all_end_well(job, *workers, server)
    good = assert_rounds(job, 5)
    participants = [[each["silo"] for each in record["participants"]] for record in good]
    assert [len(silos) for silos in participants] == [2] * 5
    assert len(set(sum(participants, []))) == 3
    assert_model(job, participants, silos=3, rounds=5)
    assert sum(job.log(f"worker_{i}.log").count("waiting to join") for i in range(3)) < 30  # nobody spins


def test_training_does_not_notice_the_schedulers_death(federation):
    job = federation()
    arguments = ("--yaml_config", str(job.yaml), "--run_dir", str(job.run_dir))
    scheduler = job.start(
        "cross_silo.engines.native.scheduler", "scheduler.log", "--scheduler_manage_address", "127.0.0.1:0", *arguments
    )
    job.wait_log("scheduler.log", "serves at ")
    server = job.server()
    both = start_workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "epoch: 2 step: 1 ")
    scheduler.kill()
    scheduler.wait()
    assert_all_end_well(job, *both, server)
    assert_rounds(job)
    assert job.summary()["failed_attempts"] == 0
    assert_model(job)


@pytest.fixture
def own_redis(free_port):
    with_redis = EmbeddedRedis("127.0.0.1", free_port + 1 if free_port < 65000 else free_port - 1)
    with_redis.ensure("tests")
    yield with_redis
    with_redis.leave()


@pytest.mark.parametrize(
    "server_too", [pytest.param(False, id="alone", marks=pytest.mark.long), pytest.param(True, id="with the server")]
)
def test_redis_comes_back_empty(federation, own_redis, server_too):
    job = federation(redis_address=f"127.0.0.1:{own_redis.port}", rounds=4)
    server = job.server()
    both = start_workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "epoch: 3 step: 2 ")
    os.kill(own_redis.pid(), signal.SIGKILL)
    if server_too:
        server.kill()
        server.wait()
        server = job.server()  # starts Redis, too
    else:
        time.sleep(0.3)
        own_redis.ensure("tests")
    assert_all_end_well(job, *both, server)
    assert_rounds(job, 4)
    assert job.summary()["failed_attempts"] <= 1
    assert_model(job, rounds=4)
    record = JobStore(connect(f"127.0.0.1:{own_redis.port}", start_embedded=False), job.name).job()
    assert (record["state"], record["good_rounds"]) == ("finished", "4")


@pytest.mark.parametrize("what", ["unwritable", pytest.param("full", marks=pytest.mark.long)])
def test_a_disk_that_takes_no_checkpoint_fails_rounds_by_name_and_the_server_goes_on(federation, what):
    job = federation(round={"max_consecutive_failures": 1000})
    server = job.server()
    both = start_workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "epoch: 2 step: 1 ")
    aside = job.checkpoints.with_name("aside")
    if what == "unwritable":
        job.checkpoints.rename(aside)
    else:  # no file may grow any more
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for log in ("worker_0.log", "worker_1.log"):
        job.wait_log(log, "round 2, attempt 1 failed: round 2 attempt 1 failed: its checkpoint cannot be written: ")
    if what == "unwritable":
        aside.rename(job.checkpoints)
    else:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert_all_end_well(job, *both, server)
    assert_rounds(job)
    assert_model(job)
    assert job.summary()["failed_attempts"] >= 1
