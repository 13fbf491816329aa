"""Jobs that a stop condition ends, with real processes: scheduler, server, workers of numpy."""

from __future__ import annotations

import signal

import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.checkpoint.best import read_best
from cross_silo.coordination import JobStore, connect
from tests.support.federation import Federation

EVALUATION = {"annotations": "val.json", "image_dir": "images"}
TARGET = {"metric": "target_accuracy", "of": "map50", "operator": ">=", "threshold": 0.5}


@pytest.fixture
def federation(tmp_path, redis_address, free_port):
    made = []

    def make(stop_condition, rounds=50, **settings):
        made.append(Federation(tmp_path, redis_address, free_port, rounds, stop_condition=stop_condition, **settings))
        made[-1].store = JobStore(connect(redis_address, start_embedded=False), made[-1].name)
        return made[-1]

    yield make
    for each in made:
        each.close()


def scheduler(job):
    flags = ["--yaml_config", str(job.yaml), "--scheduler_manage_address", "127.0.0.1:0", "--run_dir", str(job.run_dir)]
    process = job.start("cross_silo.engines.native.scheduler", "scheduler.log", *flags)
    job.wait_log("scheduler.log", "serves at")
    return process


def run_to_the_end(job, *more):
    """Start server and workers; all end well."""
    server = job.server()
    workers = [job.worker(i, step_seconds=0.02) for i in range(2)]
    yield server
    assert [job.status(process) for process in (*workers, server, *more)] == [0] * (3 + len(more)), job.log(
        "server.log"
    )


def test_the_scheduler_ends_the_job_when_an_evaluation_reaches_the_target(federation):
    job = federation(TARGET, evaluation=EVALUATION)
    ended = run_to_the_end(job, scheduler(job))
    next(ended)
    job.store.add_evaluation(0, {"AP": 0.0, "AP50": 0.1})
    job.wait(lambda: len(job.store.rounds()) >= 2, "two rounds")
    job.store.add_evaluation(2, {"AP": 0.3, "AP50": 0.625})
    assert list(ended) == []
    summary = job.summary()
    assert (summary["state"], summary["reason"], summary["failed_attempts"]) == ("finished", "", 0)
    assert summary["stop"] == {"condition": "map50 >= 0.5 (0.625)", "round": 2}
    assert 2 <= summary["good_rounds"] < 50
    assert job.model()[0] == summary["good_rounds"]
    assert summary["best"]["checkpoint"] == str(job.checkpoints / f"{job.name}_best.ckpt")
    best = read_best(job.checkpoints, job.name, summary["instance"])
    assert (best.round, read_checkpoint(best.checkpoint)[1].round) == (2, 2)
    assert "stop_condition met after round 2: map50 >= 0.5 (0.625)" in job.log("scheduler.log")
    assert "the job is finished" in job.log("worker_0.log")


def test_the_server_looks_when_the_scheduler_was_killed(federation):
    job = federation({"metric": "delta_loss", "operator": "<", "threshold": 1000, "min_rounds": 8, "patience": 1})
    killed = scheduler(job)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    job.store.leave("scheduler", next(iter(job.store.members("scheduler"))))  # its last beat would live for 10 s
    ended = run_to_the_end(job)
    next(ended)
    assert list(ended) == []
    summary = job.summary()
    assert summary["state"] == "finished"
    assert summary["stop"]["condition"].startswith("delta_loss < 1000 for 1 rounds running (")
    assert (summary["stop"]["round"], summary["failed_attempts"]) == (8, 0)


def test_a_bound_in_rounds_is_exact_with_nobody_to_look(federation):
    job = federation({"any": [{"metric": "rounds", "operator": ">", "threshold": 2}]})
    ended = run_to_the_end(job)
    next(ended)
    assert list(ended) == []
    summary = job.summary()
    assert (summary["good_rounds"], summary["fl_iteration_num"], summary["state"]) == (3, 3, "finished")
    assert summary["stop"] == {"condition": "rounds > 2 (3)", "round": 3}
