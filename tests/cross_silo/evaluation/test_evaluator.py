"""The evaluator: what it measures when, with a real Redis and invented time; and the process itself."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import redis

from cross_silo.checkpoint import CheckpointInfo, UnreadableCheckpointError, checkpoint_path, write_checkpoint
from cross_silo.config.federated import Evaluation as EvaluationConfig
from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError
from cross_silo.evaluation.evaluator import GONE_PATIENCE, START_PATIENCE, Evaluator
from cross_silo.report.summary import read_summary
from tests.support.colour_squares import write_set

ROOT = Path(__file__).parents[3]
WHEN = datetime.datetime(2026, 1, 31, 12)


class Result:
    """What a measurement gives, as far as the evaluator looks."""

    detections = ()

    def __init__(self, path):
        self.path = path

    def metrics(self):
        numbers = dict.fromkeys(("AP", "AP50", "AP75"), 0.5)
        return {**numbers, "num_images": 1, "num_detections": 0, "seconds": 0.1, "file": self.path.name}


class Job:
    """A job whose server's part the test plays; each measurement takes a minute, each pause a second."""

    def __init__(self, store, directory, every=1, rounds=100):
        self.store = store
        self.directory = directory
        self.now = 0.0
        self.measured = []
        self.on_sleep = lambda: None
        self.on_measure = lambda path: None
        settings = EvaluationConfig(annotations="a", image_dir="i", every=every, deadline=600)
        config = FederatedConfig(fl_name="job", fl_iteration_num=rounds, evaluation=settings)
        (directory / "run" / "evaluator").mkdir(parents=True)
        (directory / "ckpt").mkdir()
        self.evaluator = Evaluator(
            store, config, directory / "ckpt", directory / "run", self.measure, self.sleep, lambda: self.now
        )

    def measure(self, path):
        self.now += 60
        self.measured.append(int(path.name.split("_")[3]))
        self.on_measure(path)
        return Result(path)

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 5000, "the evaluator does not end"
        self.on_sleep()

    def begin(self, instance="i1"):
        self.store.begin({"instance": instance, "fl_name": "job"})

    def file(self, round, when=WHEN):
        path = checkpoint_path(self.directory / "ckpt", "job", round, when)
        path.touch()
        return path

    def good(self, round, when=WHEN, missing=False):
        path = self.file(round, when)
        if missing:
            path.unlink()
        self.store.add_round(record(round, checkpoint=str(path)))

    def run(self):
        return self.evaluator.run()


def record(round, good=True, checkpoint=""):
    return {"round": round, "attempt": 1, "good": good, "reason": "", "participants": [], "samples": 0,
            "seconds": {"round": 1.0}, "bytes_up": 0, "bytes_down": 0, "ended": float(round),
            "checkpoint": checkpoint}  # fmt: skip


@pytest.fixture
def job(store, tmp_path):
    return Job(store, tmp_path)


def test_the_newest_round_comes_first_then_the_older_ones_and_round_0(job):
    job.begin()
    job.file(0)
    for round in (1, 2, 3):
        job.good(round)
    job.store.add_round(record(4, good=False))

    def next_round(path):
        if job.measured == [3]:
            job.good(4)

    job.on_measure = next_round
    job.on_sleep = lambda: job.store.end("finished", "")
    assert job.run() == 0
    assert job.measured == [3, 4, 2, 1, 0]
    assert sorted(job.store.evaluations()) == [0, 1, 2, 3, 4]
    assert job.store.evaluations()[4]["AP50"] == 0.5
    assert [entry["AP50"] for entry in read_summary(job.directory / "run")["rounds"] if entry["good"]] == [0.5] * 4
    assert json.loads((job.directory / "run" / "evaluator" / "results_3.json").read_text()) == []


def test_with_every_the_rounds_between_are_left_out_but_never_the_last(store, tmp_path):
    job = Job(store, tmp_path, every=3, rounds=5)
    job.begin()
    for round in range(1, 6):
        job.good(round)
    job.store.end("finished", "")
    assert job.run() == 0
    assert job.measured == [5, 3]


def test_a_failed_jobs_last_good_round_is_evaluated(store, tmp_path):
    job = Job(store, tmp_path, every=10, rounds=5)
    job.begin()
    job.good(1)
    job.good(2)
    job.store.end("failed", "silo_1 did not push")
    assert job.run() == 0
    assert job.measured == [2]


def test_after_the_deadline_what_is_left_is_left(job, caplog):
    job.begin()
    job.store.end("finished", "")
    for round in range(1, 31):
        job.good(round)
    with caplog.at_level("INFO"):
        assert job.run() == 0
    assert job.measured[0] == 30 and 9 <= len(job.measured) <= 12
    assert "out of time" in caplog.text


def test_damaged_or_missing_checkpoints_are_passed_over_once(job, caplog):
    job.begin()
    job.good(1)
    job.good(2, missing=True)
    job.good(3)

    def damaged(path):
        if "iteration_3_" in path.name:
            raise UnreadableCheckpointError(f"checkpoint {path} is damaged")

    job.on_measure = damaged
    job.on_sleep = lambda: job.now > 300 and job.store.end("finished", "")
    with caplog.at_level("WARNING"):
        assert job.run() == 0
    assert job.measured == [3, 1]
    assert sorted(job.store.evaluations()) == [1]
    assert caplog.text.count("round 2 is not evaluated") == caplog.text.count("round 3 is not evaluated") == 1


def test_a_checkpoint_of_another_model_is_an_error(job):
    job.begin()
    job.good(1)

    def other(path):
        raise UserError(f"checkpoint {path} is of another model")

    job.on_measure = other
    with pytest.raises(UserError, match="another model"):
        job.run()


def test_a_job_begun_anew_meanwhile_is_evaluated_anew(job):
    job.begin("i1")
    job.good(1)

    def new_instance(path):
        if len(job.measured) == 1:
            job.store.clear()
            job.begin("i2")
            job.good(1, WHEN + datetime.timedelta(hours=1))

    job.on_measure = new_instance
    job.on_sleep = lambda: job.store.end("finished", "")
    assert job.run() == 0
    assert job.measured == [1, 1]
    assert job.store.evaluations()[1]["file"] == "job_recovery_iteration_1_20260131_130000.ckpt"


def test_an_ended_record_of_an_earlier_run_is_waited_over(job):
    job.begin("old")
    job.store.end("finished", "")

    def server_starts():
        if job.now == 5:
            job.begin("new")
            job.good(1)
        if job.now > 300:
            job.store.end("finished", "")

    job.on_sleep = server_starts
    assert job.run() == 0
    assert job.measured == [1]


def test_an_evaluator_started_after_the_end_does_what_is_left(job):
    job.begin()
    job.good(1)
    job.store.end("finished", "")
    assert job.run() == 0
    assert job.measured == [1] and job.now <= START_PATIENCE + 62


def test_without_a_record_of_the_job_it_gives_up(job, caplog):
    assert job.run() == 1
    assert GONE_PATIENCE <= job.now <= GONE_PATIENCE + 5
    assert "its server is gone" in caplog.text


def test_an_emptied_redis_gets_the_evaluations_again(job):
    job.begin()
    job.good(1)

    def emptied():
        if job.now < 100:
            job.store.clear()
            job.begin()
            job.good(1)
        elif job.now > 110:
            job.store.end("finished", "")

    job.on_sleep = emptied
    assert job.run() == 0
    assert job.measured == [1] and sorted(job.store.evaluations()) == [1]


def test_an_absent_redis_is_waited_for(job, monkeypatch, caplog):
    job.begin()
    job.good(1)
    job.store.end("finished", "")
    answers, rounds = iter([False, False, True, False]), job.store.rounds

    def sometimes():
        if not next(answers, True):
            raise redis.ConnectionError("gone")
        return rounds()

    monkeypatch.setattr(job.store, "rounds", sometimes)
    assert job.run() == 0
    assert job.measured == [1] and sorted(job.store.evaluations()) == [1]
    assert caplog.text.count("Redis does not answer") == 1
    assert read_summary(job.directory / "run")["rounds"][0]["AP50"] == 0.5


@pytest.fixture
def process(store, redis_address, tmp_path):
    """Starts the evaluator process of a job of the tiny detector whose server's part the test plays."""
    annotations = write_set(tmp_path / "val")
    (tmp_path / "model.yaml").write_text("detector: tests.support.tiny_detector\nimg_height: 48\nimg_width: 64\n")
    (tmp_path / "fl.yaml").write_text(
        f"fl_name: job\nfl_iteration_num: 2\ndistributed_cache: {{address: '{redis_address}'}}\n"
        f"evaluation: {{annotations: {annotations}, image_dir: {tmp_path / 'val' / 'images'}}}\n"
    )
    started = []

    def start():
        command = [sys.executable, "-m", "cross_silo.evaluation.evaluator", "--yaml_config", tmp_path / "fl.yaml",
                   "--config", tmp_path / "model.yaml", "--checkpoint_dir", tmp_path / "ckpt",
                   "--run_dir", tmp_path / "run"]  # fmt: skip
        started.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        )
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.communicate()


def save(tmp_path, round, threshold, channels=4):
    shapes = {"conv.weight": (channels, 3, 3, 3), "threshold": ()}
    shapes.update({f"bn.{name}": (channels,) for name in ("gamma", "beta", "moving_mean", "moving_variance")})
    weights = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights["threshold"] = np.array(threshold, np.float32)
    (tmp_path / "ckpt").mkdir(exist_ok=True)
    path = checkpoint_path(tmp_path / "ckpt", "job", round, WHEN)
    write_checkpoint(path, weights, CheckpointInfo("job", round=round))
    return path


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_process_follows_a_job_to_its_end(store, process, tmp_path):
    store.begin({"instance": "i1"})
    save(tmp_path, 0, threshold=300)
    evaluator = process()
    wait_for(lambda: 0 in store.evaluations())
    (member,) = store.members("evaluator").values()
    assert member["pid"] == evaluator.pid
    ready = json.loads((tmp_path / "run" / "evaluator" / "ready.json").read_text())
    assert ready["pid"] == evaluator.pid
    assert os.getpriority(os.PRIO_PROCESS, evaluator.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    for round, threshold in ((1, 300), (2, 200)):
        store.add_round(record(round, checkpoint=str(save(tmp_path, round, threshold))))
    store.end("finished", "")
    out = evaluator.communicate(timeout=60)[0]
    assert evaluator.returncode == 0, out
    assert "round 2: AP 1.000" in out
    assert {n: metrics["AP50"] for n, metrics in store.evaluations().items()} == {0: 0, 1: 0, 2: pytest.approx(1)}
    assert store.members("evaluator") == {}
    results = json.loads((tmp_path / "run" / "evaluator" / "results_2.json").read_text())
    assert len(results) == 15 and set(results[0]) == {"image_id", "category_id", "bbox", "score"}


def test_the_process_leaves_when_asked(store, process, tmp_path):
    store.begin({"instance": "i1"})
    evaluator = process()
    wait_for(lambda: store.members("evaluator"))
    evaluator.send_signal(signal.SIGTERM)
    assert evaluator.wait(timeout=30) == 0
    assert store.members("evaluator") == {}


def test_the_process_refuses_another_models_checkpoint(store, process, tmp_path):
    store.begin({"instance": "i1"})
    save(tmp_path, 0, threshold=300, channels=5)
    evaluator = process()
    out = evaluator.communicate(timeout=60)[0]
    assert evaluator.returncode == 2
    assert "error: checkpoint" in out and "of another model: tensor 'conv.weight'" in out and "Traceback" not in out
