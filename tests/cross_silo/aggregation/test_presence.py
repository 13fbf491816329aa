"""What a leading process tells of itself and of its job."""

import logging
import os
import types

import pytest
import redis

from cross_silo.aggregation import presence
from cross_silo.launch.proc import is_alive


def rounds(**changed):
    fields = {"state": "failed", "reason": "why", "iteration": 3, "attempt": 2, "phase": "idle", "good_rounds": 2}
    return types.SimpleNamespace(**{**fields, **changed}, other=1)


def test_standing():
    assert presence.standing_of(rounds()) == {key: value for key, value in vars(rounds()).items() if key != "other"}


def test_own_member_is_this_process(tmp_path):
    told = presence.own_member("127.0.0.1:1", tmp_path)
    assert (told["pid"], told["address"], told["run_dir"]) == (os.getpid(), "127.0.0.1:1", str(tmp_path))
    assert is_alive(told["pid"], told["start_time"])


def test_a_silo_was_seen_when_its_lease_was_renewed(monkeypatch):
    monkeypatch.setattr(presence.time, "time", lambda: 1000.0)
    lease = types.SimpleNamespace(info={"samples": 4}, worker="w", ends=112.0)
    leases = types.SimpleNamespace(seconds=15.0, live=lambda: {"a": lease})
    assert presence.live_silos(leases, clock=100.0) == {"a": {"samples": 4, "worker": "w", "seen": 997.0}}


def test_status_without_redis():
    store = types.SimpleNamespace(call=lambda ask, otherwise: otherwise)
    with pytest.raises(redis.ConnectionError):
        presence.status_of(store, "job")


@pytest.mark.parametrize("state, level", [("failed", logging.ERROR), ("finished", logging.INFO)])
def test_the_end_is_an_error_where_the_job_failed(caplog, state, level):
    caplog.set_level(logging.INFO)
    presence.log_end(logging.getLogger("test"), "job", rounds(state=state), "failed")
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(level, f"job job is {state}: why")]
