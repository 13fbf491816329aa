"""Following a job by its run directory."""

import json
import os

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.proc import start_time
from cross_silo.report.follow import any_writer, follow

LATE = "round 2 attempt 1 failed: silo_1 (h:1): no heartbeat for 15 s"
GOOD = {"round": 1, "attempt": 1, "good": True, "reason": "", "losses": {"silo_0": 1.5, "silo_1": None},
        "seconds": {"round": 12.0}, "ended": 1.0}  # fmt: skip
FAILED = {**GOOD, "round": 2, "good": False, "reason": LATE, "ended": 2.0}


def process(run_dir, role, pid, started):
    (run_dir / role).mkdir(parents=True, exist_ok=True)
    (run_dir / role / "process.json").write_text(json.dumps({"pid": pid, "start_time": started}))


def summary(run_dir, rounds, evaluations):
    (run_dir / "summary.json").write_text(json.dumps({"rounds": rounds, "evaluations": evaluations}))


def test_each_event_is_told_once_until_the_last_writer_is_gone(tmp_path):
    own = start_time(os.getpid())
    process(tmp_path, "server_0", os.getpid(), own)
    metrics = {"AP50": 0.25, "AP": 0.125}
    happening = [
        lambda: summary(tmp_path, [], {"0": {"AP50": 0.0, "AP": 0.0}}),
        lambda: summary(tmp_path, [GOOD], {"0": {"AP50": 0.0, "AP": 0.0}}),
        lambda: process(tmp_path, "evaluator", os.getpid(), own),
        lambda: process(tmp_path, "server_0", os.getpid(), own + 1),
        lambda: (summary(tmp_path, [GOOD, FAILED], {"1": metrics}), process(tmp_path, "evaluator", 1, own)),
    ]
    told = []
    follow(tmp_path, told.append, sleep=lambda seconds: happening.pop(0)())
    assert happening == []
    assert told == [
        "model of round 0: AP50 0.000, AP 0.000",
        "round 1 good, 12.0 s; mean loss: silo_0 1.500, silo_1 -",
        LATE,
        "model of round 1: AP50 0.250, AP 0.125",
    ]


def test_an_ended_job_is_told_at_once(tmp_path):
    summary(tmp_path, [GOOD], {})
    told = []
    follow(tmp_path, told.append)
    assert len(told) == 1


def test_workers_do_not_count_and_nothing_at_all_is_an_error(tmp_path):
    process(tmp_path, "worker_0", os.getpid(), start_time(os.getpid()))
    assert not any_writer(tmp_path)
    with pytest.raises(UserError, match="no server of a job runs there"):
        follow(tmp_path, print)
