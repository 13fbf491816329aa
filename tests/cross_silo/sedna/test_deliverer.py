"""The end of a job is seen in its Redis or in its summary, and its model delivered if it finished."""

import os
import time

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.record import write_json
from cross_silo.sedna.deliverer import (
    RESULT,
    delivery,
    has_processes,
    job_state,
    load_plan,
    wait_and_deliver,
)
from tests.support.sedna_manifests import planned, sound_job


@pytest.fixture
def plan(tmp_path, free_port):
    """A job whose Redis is gone."""
    (tmp_path / "run").mkdir()
    return planned(tmp_path, sound_job(), redis_address=f"127.0.0.1:{free_port}").plan


def test_the_summary_tells_where_redis_is_gone_but_not_an_earlier_runs(tmp_path, plan):
    assert job_state(plan, 0.0) == ""
    write_json(tmp_path / "run" / "summary.json", {"state": "finished"})
    began = time.time()
    os.utime(tmp_path / "run" / "summary.json", (began - 60, began - 60))
    assert job_state(plan, began) == ""
    assert job_state(plan, began - 120) == "finished"


def test_a_live_redis_tells_first(tmp_path, redis_address, store):
    found = planned(tmp_path, sound_job(), redis_address=redis_address).plan
    assert job_state(found, 0.0) == ""
    store._client.hset("cross_silo:yolo:job", mapping={"state": "running"})
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "summary.json", {"state": "finished"})
    assert job_state(found, 0.0) == "running"


def test_it_waits_for_the_end_and_a_stopped_job_delivers_nothing(tmp_path, plan):
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            write_json(tmp_path / "run" / "summary.json", {"state": "stopped"})

    with pytest.raises(UserError, match="job 'yolo' is stopped: its model is not delivered"):
        wait_and_deliver(plan, "pth", 0.0, pause, alive=lambda plan: True)
    assert len(pauses) == 3


def test_it_does_not_wait_for_ever_where_nothing_runs(plan, monkeypatch):
    monkeypatch.setattr("cross_silo.sedna.deliverer.POLL_SECONDS", 20.0)
    pauses, lives = [], iter([False, True])
    with pytest.raises(UserError, match="job 'yolo' has no processes left and did not end"):
        wait_and_deliver(plan, "pth", 0.0, pauses.append, alive=lambda plan: next(lives, has_processes(plan)))
    assert pauses == [20.0] * 5  # one before it was seen alive, and a minute


def test_what_became_of_the_delivery(tmp_path):
    assert delivery(tmp_path) == {}
    (tmp_path / "sedna").mkdir()
    write_json(tmp_path / RESULT, {"delivered": False, "reason": "no space"})
    assert delivery(tmp_path) == {"delivered": False, "reason": "no space"}


def test_a_directory_without_a_plan_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has no sedna/plan.json; expected the run directory of a job"):
        load_plan(tmp_path)
