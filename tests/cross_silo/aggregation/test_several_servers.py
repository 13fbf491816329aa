"""Several servers, by real processes: the model is that of one server, whatever is killed, and no round is lost."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.federation import Federation, reference
from tests.support.ports import adjoining_ports

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
