"""What the aggregator makes of time that passes: leases and other servers that are away."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.awaited_servers import AwaitedServers
from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.models import ModelStore
from cross_silo.aggregation.rounds import CLOSING, Rounds
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.config.federated import Round

SIZES = {"a": 3}
LEASE = 10


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def aggregator(store, clock):
    settings = Round(start_fl_job_threshold=2, start_fl_job_time_window=20_000)
    models = ModelStore(SIZES)
    models.load({"a": np.zeros(3, np.float32)}, 0)
    leases = Leases(GuardedStore(store), LEASE, (), 2, clock)
    made = Aggregator(Rounds(settings, 3, clock), leases, models, lambda n, tensors: f"{n}.ckpt", clock)
    for i in range(2):
        leases.acquire(f"silo_{i}", f"w{i}", {"node": f"h:{i}"})
        made.start_round(f"silo_{i}", f"w{i}", 10)
    return made


def test_who_waits_hears_at_once_that_a_lease_ran_out(aggregator, clock):
    answers = []
    waits = threading.Thread(target=lambda: answers.append(aggregator.model(1, 1, "w0", wait=60)), daemon=True)
    waits.start()
    clock.now += LEASE - 1
    aggregator.leases.renew("silo_0", "w0", {})
    clock.now += 2
    aggregator.tick()
    waits.join(timeout=20)
    assert [answer.verdict for answer in answers] == ["failed"]
    (record,) = aggregator.take_records()
    assert record["reason"] == "round 1 attempt 1 failed: silo_1 (h:1): no heartbeat for 10 s (lease)"


def test_a_round_whose_model_is_being_saved_does_not_fail_with_a_server_that_is_away(aggregator, clock):
    update = CheckedUpdate({"a": np.ones(3, np.float32)}, 10, loss=0.5)
    for i in range(2):
        assert aggregator.push(f"silo_{i}", f"w{i}", 1, 1, update).ok
    assert aggregator.rounds.phase == CLOSING
    away = SimpleNamespace(away=lambda: "server_1: it does not answer", away_since=lambda: 100.0)
    aggregator.awaited = AwaitedServers(away)
    clock.now += 1000
    aggregator.tick()
    assert aggregator.rounds.key == (1, 1)
    aggregator.close_round()
    aggregator.tick()
    first, second = aggregator.take_records()
    assert (first["round"], first["attempt"], first["good"], len(first["participants"])) == (1, 1, True, 2)
    assert (second["round"], second["good"]) == (2, False)
    assert "startFLJob window of 20 s (round.start_fl_job_time_window) ended; server_1" in second["reason"]
