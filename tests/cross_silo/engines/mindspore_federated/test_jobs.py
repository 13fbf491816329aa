"""Jobs with the wheel's own scheduler and servers, as real processes started by the launching scripts."""

import json
import os
import signal
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


def test_a_job_from_start_to_end_with_four_servers(start):
    """Two rounds: the model is the weighted mean, records are those of any engine, and everything ends by itself."""
    job = start(servers=4, rounds=2)
    assert "server_3" in job.start_servers()
    assert [job.status(worker) for worker in workers(job)] == [0, 0]
    roles = ["server_front", *(f"server_{i}" for i in range(4))]
    pids = [job.pid(role) for role in roles]
    job.wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "front and servers to leave")
    check_result(job, 2)
    summary = job.summary()
    assert (summary["state"], summary["engine"], summary["good_rounds"]) == ("finished", "mindspore_federated", 2)
    for record in summary["rounds"]:
        assert record["good"] and {entry["silo"]: entry["samples"] for entry in record["participants"]} == SAMPLES
        assert all(entry["loss"] > 0 and entry["steps"] == 5 for entry in record["participants"])
    assert "round 2 good: 2 silos, 40 samples" in job.log("run/server_front/server_front.log")


def test_killed_roles_are_started_again_and_the_job_goes_on(start):
    """The server dies mid-round, then the front: each goes on from checkpoint and Redis, and no round is lost."""
    job = start(rounds=5)
    job.start_scheduler()
    job.start_servers()
    assert ask(job.manage_address, "/state")["cluster_state"] == "CLUSTER_READY"
    assert ask(f"127.0.0.1:{job.first_port + 7}", "/state")["cluster_state"] == "CLUSTER_READY", "the wheel's own"
    processes = workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "model of round 1 received")
    os.kill(job.pid("server_0"), signal.SIGKILL)
    assert "server_front (pid" in job.start_servers()
    job.wait_log("worker_0.log", "model of round 3 received")
    os.kill(job.pid("server_front"), signal.SIGKILL)
    job.start_servers()
    assert [job.status(process) for process in processes] == [0, 0]
    check_result(job, 5)
    assert {record["round"] for record in job.summary()["rounds"] if record["good"]} == {1, 2, 3, 4, 5}
    assert "begins with the model of round 0" not in job.log("run/server_0/server.log").split("is dead")[-1]


def test_a_failed_iteration_is_failed_for_its_workers_who_repeat_it(start):
    """One silo stalls past the engine's update window: the engine's reply looks good, the front's verdict does not."""
    job = start(rounds=2, round={"update_model_time_window": 1000}, lease=30.0)
    job.start_servers()
    quick, slow = job.worker(0, num_samples=10), job.worker(1, num_samples=30, step_seconds=0.8)
    job.wait_log("worker_0.log", "failed: round 1 attempt 1 failed: Round updateModel timeout!")
    assert "silo_1" in job.log("worker_0.log")
    assert [job.status(worker) for worker in (quick, slow)] == [0, 0]
    check_result(job, 2)
    assert job.summary()["failed_attempts"] >= 1


def test_sigterm_ends_every_role_and_finish_finds_nothing(start):
    """Within 3 s where nothing else runs; the bound is for a busy machine, and far below the wheel's minute."""
    job = start(rounds=50)
    job.start_scheduler()
    job.start_servers()
    processes = workers(job, step_seconds=0.05)
    job.wait_log("worker_0.log", "model of round 1 received")
    pids = [job.pid(role) for role in ("scheduler", "server_front", "server_0")]
    assert job.seconds_to_end([*pids, *(process.pid for process in processes)]) < 15.0
    assert job.finish().startswith("nothing")
