"""When there are features enough, by a clock of the test's."""

from __future__ import annotations

import json

import pytest

from cross_silo.mistnet.collection import Collection
from cross_silo.mistnet.transmitter import HttpTransmitter
from cross_silo.protocol.http_service import HttpError
from tests.support.fake_features import write_features
from tests.support.served_features import ServedFeatures


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def job_of(store, tmp_path):
    made = []

    def make(**settings):
        made.append(ServedFeatures(store, tmp_path, clock=Clock(), deadline=100.0, **settings))
        return made[-1]

    yield make
    for job in made:
        job.close()


def deliver(job, silo, tmp_path):
    source = tmp_path / f"source_{silo}"
    HttpTransmitter(job.client(silo)).deliver(source, write_features(source), lambda size: None)


def standing(job):
    job.collection.tick()
    return job.collection.rounds.state, job.collection.rounds.phase


def test_all_silos_before_the_deadline(job_of, tmp_path):
    job = job_of()
    assert standing(job) == ("running", "collecting")
    deliver(job, "silo_0", tmp_path)
    assert standing(job) == ("running", "collecting")
    deliver(job, "silo_1", tmp_path)
    assert standing(job) == ("running", "training")
    assert json.loads((job.store.root / "pool.json").read_text())["silos"] == {"silo_0": "silo_0", "silo_1": "silo_1"}
    assert job.collection.left_out() == {}


def test_too_few_silos_at_the_deadline(job_of, tmp_path):
    job = job_of()
    deliver(job, "silo_0", tmp_path)
    job.collection._clock.now = 99.9
    assert standing(job) == ("running", "collecting")
    job.collection._clock.now = 100.0
    assert standing(job)[0] == "failed"
    assert "1 of 2 silos have delivered their features within 100 s (mistnet.deadline)" in job.collection.rounds.reason
    with pytest.raises(HttpError, match="the job is failed"):
        job.collection.refuse_late("silo_1")


def test_enough_silos_at_the_deadline(job_of, tmp_path):
    job = job_of(least=1)
    deliver(job, "silo_1", tmp_path)
    job.leases.acquire("silo_0", "w", {})
    job.collection._clock.now = 100.0
    assert standing(job) == ("running", "training")
    assert job.collection.left_out() == {"silo_0": "its features came too late"}
    with pytest.raises(HttpError, match="come too late"):
        job.collection.refuse_late("silo_0")


def test_what_was_decided_holds_for_the_next_server(job_of, tmp_path):
    job = job_of(least=1)
    deliver(job, "silo_1", tmp_path)
    job.collection._clock.now = 100.0
    job.collection.tick()
    again = Collection(job.store, job.leases, 2, 100.0, 3, Clock())
    assert again.rounds.phase == "training" and again.pool == job.collection.pool


def test_an_ended_job_stays_as_it_ended(job_of):
    job = job_of()
    job.collection.end("stopped", "asked to")
    job.collection.end("failed", "later")
    assert (job.collection.rounds.state, job.collection.rounds.reason) == ("stopped", "asked to")
    job.collection._clock.now = 1e6
    assert standing(job)[0] == "stopped"
