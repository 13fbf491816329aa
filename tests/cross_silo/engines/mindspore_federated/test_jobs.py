"""Jobs with the wheel's own scheduler and servers, as real processes started by the launching scripts."""

import json
import os
import signal
import time
import urllib.request

import numpy as np
import pytest

from tests.support.federation import reference
from tests.support.wheel_federation import WheelFederation

SAMPLES = {"silo_0": 10, "silo_1": 30}


@pytest.fixture
def start(tmp_path):
    jobs = []

    def start(**settings):
        job = WheelFederation(tmp_path, **settings)
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.close()


def workers(job, **trainer):
    return [job.worker(i, num_samples=samples, **trainer) for i, samples in enumerate(SAMPLES.values())]


def check_result(job, rounds):
    made, model = job.model()
    assert made == rounds
    for name, expected in reference(SAMPLES, rounds).items():
        np.testing.assert_allclose(model[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def ask(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=20) as reply:
        return json.load(reply)


def left(job, *roles):
    """Whether the processes of ``roles`` are gone; call it before the job's end to know them."""
    pids = [job.pid(role) for role in roles]
    return lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def check_records(job, rounds):
    summary = job.summary()
    assert (summary["state"], summary["engine"], summary["good_rounds"]) == ("finished", "mindspore_federated", rounds)
    good = [record for record in summary["rounds"] if record["good"]]
    assert [record["round"] for record in good] == list(range(1, rounds + 1))
    for record in good:
        assert {entry["silo"]: entry["samples"] for entry in record["participants"]} == SAMPLES
        assert all(entry["loss"] > 0 and entry["steps"] == 5 for entry in record["participants"])


def test_killed_roles_are_started_again_and_the_job_goes_on_to_its_end(start):
    """The server dies mid-round, then the front: no round is lost, none is made twice; then everything leaves."""
    job = start(rounds=3)
    job.start_scheduler()
    job.start_servers()
    assert ask(job.manage_address, "/state")["cluster_state"] == "CLUSTER_READY"
    assert ask(f"127.0.0.1:{job.first_port + 7}", "/state")["cluster_state"] == "CLUSTER_READY", "the wheel's own"
    processes = workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "model of round 1 received")
    os.kill(job.pid("server_0"), signal.SIGKILL)
    assert "server_front (pid" in job.start_servers()
    job.wait_log("worker_0.log", "model of round 2 received")
    os.kill(job.pid("server_front"), signal.SIGKILL)
    job.start_servers()
    have_left = left(job, "scheduler", "server_front", "server_0")
    assert [job.status(process) for process in processes] == [0, 0]
    check_result(job, 3)
    assert {record["round"] for record in job.summary()["rounds"] if record["good"]} == {1, 2, 3}
    assert "begins with the model of round 0" not in job.log("run/server_0/server.log").split("is dead")[-1]
    job.wait(have_left, "all roles to leave")


def test_a_failed_iteration_is_repeated_and_sigterm_ends_all(start):
    """One silo stalls past the engine's update window: the engine's reply looks good, the front's verdict does not.

    SIGTERM takes up to 3 s where nothing else runs; the bound is for a busy machine, and far below the wheel's minute.
    """
    job = start(rounds=50, round={"update_model_time_window": 1000}, lease=30.0)
    job.start_scheduler()
    job.start_servers()
    processes = [job.worker(0, num_samples=10), job.worker(1, num_samples=30, step_seconds=0.8)]
    job.wait_log("worker_0.log", "failed: round 1 attempt 1 failed: Round updateModel timeout!")
    assert "silo_1" in job.log("worker_0.log")
    job.wait_log("worker_0.log", "model of round 1 received")
    job.wait_log("worker_1.log", "model of round 1 received")
    check_result(job, 1)
    assert job.summary()["failed_attempts"] >= 1
    pids = [job.pid(role) for role in ("scheduler", "server_front", "server_0")]
    assert job.seconds_to_end([*pids, *(process.pid for process in processes)]) < 15.0
    assert job.finish().startswith("nothing")


@pytest.mark.long
def test_a_job_with_four_servers(start):
    """Two rounds: the model is the weighted mean, records are those of any engine, and everything ends by itself."""
    job = start(servers=4, rounds=2)
    assert "server_3" in job.start_servers()
    have_left = left(job, "server_front", *(f"server_{i}" for i in range(4)))
    assert [job.status(worker) for worker in workers(job)] == [0, 0]
    job.wait(have_left, "front and servers to leave")
    check_result(job, 2)
    check_records(job, 2)


@pytest.mark.long
@pytest.mark.parametrize("role", ["server_front", "server_0"])
def test_a_role_that_dies_at_any_moment(start, role):
    """Killed at another moment of each round: no update is averaged twice, and no round is skipped."""
    job = start(rounds=10, lease=10.0)
    job.start_servers()
    processes = workers(job, step_seconds=0.15)
    for number in range(1, 8):
        job.wait_log("worker_0.log", f"model of round {number} received")
        time.sleep(number * 0.2)
        os.kill(job.pid(role), signal.SIGKILL)
        job.start_servers()
    assert [job.status(process) for process in processes] == [0, 0]
    check_result(job, 10)
    assert {record["round"] for record in job.summary()["rounds"] if record["good"]} == set(range(1, 11))
