"""Whole jobs with real processes, a real Redis and real kills; the trainers are numpy's."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from tests.support.colour_squares import write_set
from tests.support.federation import Federation, reference
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

SAMPLES = {"silo_0": 10, "silo_1": 30}


@pytest.fixture
def federation(tmp_path, redis_address, free_port):
    made = []

    def make(**settings):
        made.append(Federation(tmp_path, redis_address, free_port, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def workers(job, **trainer):
    return [job.worker(i, num_samples=SAMPLES[f"silo_{i}"], **trainer) for i in range(2)]


def assert_model_is_reference(job, rounds=3):
    number, weights = job.model()
    assert number == rounds
    for name, array in reference(SAMPLES, rounds).items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-6, atol=1e-6)


def test_a_job_is_fedavg_and_ends_by_itself(federation):
    job = federation(rounds=3)
    server = job.server()
    both = workers(job)
    assert [job.status(process) for process in (*both, server)] == [0, 0, 0], job.log("server.log")
    assert_model_is_reference(job)
    summary = job.summary()
    assert (summary["state"], summary["good_rounds"], summary["failed_attempts"]) == ("finished", 3, 0)
    assert [record["samples"] for record in summary["rounds"]] == [40, 40, 40]
    assert (job.run_dir / "worker_1/ckpt/mindrecord_1/mindrecord_1-fast-rcnn-2epoch.ckpt").exists()
    assert "epoch: 3 step: 5 total_loss: " in job.log("worker_0.log")


def test_a_killed_worker_is_started_again_and_the_model_is_the_same(federation):
    job = federation(rounds=3)
    server = job.server()
    first, second = workers(job, step_seconds=0.1)
    job.wait_log("worker_1.log", "epoch: 2 step: 2 ")
    second.kill()
    second.wait()
    again = job.worker(1, num_samples=SAMPLES["silo_1"])
    assert [job.status(process) for process in (first, again, server)] == [0, 0, 0], job.log("server.log")
    assert_model_is_reference(job)
    assert job.log("worker_1.log").count("going on after step 5, trained for round 1") == 1


def test_the_last_model_is_the_average_of_the_silos_mean_over_all_steps(federation):
    """One silo is killed on the way; the average of a mean of models is what each of their averages adds up to."""
    job = federation(rounds=3)
    server = job.server()
    first, second = workers(job, step_seconds=0.05, ema_decay=0.8)
    job.wait_log("worker_1.log", "epoch: 2 step: 2 ")
    second.kill()
    second.wait()
    again = job.worker(1, num_samples=SAMPLES["silo_1"], ema_decay=0.8)
    assert [job.status(process) for process in (first, again, server)] == [0, 0, 0], job.log("server.log")
    number, weights = job.model()
    assert number == 3
    trainers = {silo: NumpyTrainer(silo) for silo in SAMPLES}
    mean = {name: np.ones(shape) for name, shape in SHAPES.items()}
    average = dict(mean)
    for _ in range(3):
        for trainer in trainers.values():
            trainer.set_weights(mean)
        for _ in range(5):
            for trainer in trainers.values():
                trainer.train(1, lambda record: None)
            for name in SHAPES:
                mean[name] = sum(SAMPLES[silo] * trainers[silo].get_weights()[name] for silo in SAMPLES) / 40
                average[name] = 0.8 * average[name] + 0.2 * mean[name]
    for name, array in average.items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-4, atol=1e-5)
        assert not np.allclose(weights[name], mean[name], atol=1e-3)


def test_a_killed_server_is_started_again_and_the_model_is_the_same(federation):
    job = federation(rounds=3)
    server = job.server()
    both = workers(job, step_seconds=0.1)
    job.wait_log("worker_0.log", "epoch: 2 step: 2 ")
    server.kill()
    server.wait()
    again = job.server()
    assert [job.status(process) for process in (*both, again)] == [0, 0, 0], job.log("server.log")
    assert_model_is_reference(job)


def test_a_dead_silo_fails_the_round_by_name_and_its_successor_completes_it(federation):
    job = federation(rounds=2)
    server = job.server()
    first, second = workers(job, step_seconds=0.1)
    job.wait_log("worker_1.log", "epoch: 1 step: 2 ")
    second.kill()
    job.wait_log("worker_0.log", "failed: ")
    again = job.worker(1, num_samples=SAMPLES["silo_1"])
    assert [job.status(process) for process in (first, again, server)] == [0, 0, 0], job.log("server.log")
    assert_model_is_reference(job, rounds=2)
    failed = [record for record in job.summary()["rounds"] if not record["good"]]
    assert failed and "silo_1" in failed[0]["reason"] and "heartbeat" in failed[0]["reason"]
    assert job.log("worker_0.log").count("training 5 steps") == 2  # the failed round's update was pushed again


def test_a_silo_that_never_comes_ends_the_job_by_name(federation):
    windows = {"start_fl_job_threshold": 2, "start_fl_job_time_window": 300, "max_consecutive_failures": 2}
    job = federation(rounds=2, round=windows)
    server = job.server()
    only = job.worker(0)
    assert [job.status(only), job.status(server)] == [1, 1]
    summary = job.summary()
    assert (summary["state"], summary["good_rounds"], summary["failed_attempts"]) == ("failed", 0, 2)
    assert "startFLJob window of 0.3 s" in summary["reason"]
    assert job.model()[0] == 0
    assert summary["reason"] in job.log("worker_0.log")


def test_a_non_finite_loss_fails_its_round_at_once(federation):
    job = federation(rounds=2, lease=60.0)
    job.server()
    healthy = job.worker(0)
    sick = job.worker(1, nan_at=7)
    assert job.status(sick) == 1
    assert "non-finite loss: step 7: total_loss: nan (squares: " in job.log("worker_1.log")
    job.wait_log("server.log", "round 2 attempt 1 failed: silo_1 ")
    assert healthy.poll() is None
    assert job.model()[0] == 1


def error_line(job, log):
    lines = [line for line in job.log(log).splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, job.log(log)
    assert "Traceback" not in job.log(log)
    return lines[0]


def test_without_a_server_a_worker_says_so(federation):
    job = federation()
    assert job.status(job.worker(0, "--wait_for_server", "0.5")) == 2
    assert f"no server answers at {job.address}" in error_line(job, "worker_0.log")


def test_another_model_other_classes_and_a_taken_silo_are_refused(federation, tmp_path):
    job = federation()
    job.server()
    assert job.status(job.worker(0, shapes={"head.weight": [4, 4]})) == 2
    assert "fingerprint" in error_line(job, "worker_0.log")

    assert job.status(job.worker(5, classes=("dog",))) == 2
    assert "its classes are dog, the job's are cell" in error_line(job, "worker_5.log")

    holder = job.worker(1, step_seconds=0.2)
    job.wait_log("worker_1.log", "takes part")
    assert job.status(job.worker(6, "--silo", "silo_1")) == 2
    assert "silo_1" in error_line(job, "worker_6.log")
    assert holder.poll() is None

    job.worker(0, step_seconds=0.2)
    job.wait_log("worker_0.log", "takes part")
    assert job.status(job.worker(7)) == 2
    assert "silo" in error_line(job, "worker_7.log")


def validation(directory, *names):
    path = write_set(directory, num_images=2, names=("cell", *names))
    content = json.loads(path.read_text())
    content["categories"] = content["categories"][: 1 + len(names)]
    path.write_text(json.dumps(content))
    return ("--val_annotations", str(path), "--val_image_dir", str(directory / "images"))


def test_a_silos_own_ap_is_in_the_summary_to_the_last_round(federation, tmp_path):
    job = federation(rounds=3, lease=2.0)
    server = job.server()
    flags = validation(tmp_path / "val_1")
    both = [job.worker(0, num_samples=10), job.worker(1, *flags, num_samples=30, measure_seconds=3.0)]
    assert [job.status(process) for process in (*both, server)] == [0, 0, 0], job.log("server.log")
    assert_model_is_reference(job)
    summary = job.summary()
    assert [record["silo_AP50"] for record in summary["rounds"]] == [{"silo_1": n} for n in (0.05, 0.1, 0.15)]
    assert summary["silo_evaluations"]["0"]["silo_1"]["AP50"] == 0
    assert summary["failed_attempts"] == 0  # measuring took longer than the lease, and held nobody up


def test_a_validation_set_that_does_not_fit_is_named(federation, tmp_path):
    job = federation()
    flags = validation(tmp_path / "two", "dog")
    assert job.status(job.worker(0, *flags)) == 2
    assert "its classes are cell, dog, those of the training data cell" in error_line(job, "worker_0.log")
    flags = validation(tmp_path / "one")
    (tmp_path / "one" / "images" / "2.png").unlink()
    assert job.status(job.worker(1, *flags)) == 2
    assert "has no 2.png (image 2)" in error_line(job, "worker_1.log")


def test_a_missing_shard_directory_is_named(federation, tmp_path):
    job = federation()
    assert job.status(job.worker(0, "--dataset_dir", str(tmp_path / "nowhere"))) == 2
    assert f"{tmp_path / 'nowhere'}: no such directory" in error_line(job, "worker_0.log")


def test_pre_trained_must_be_the_jobs(federation, tmp_path):
    job = federation(rounds=1)
    server = job.server()
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"not it")
    assert job.status(job.worker(0, "--pre_trained", str(other))) == 2
    assert "other.ckpt" in error_line(job, "worker_0.log")
    [initial] = job.checkpoints.iterdir()
    same = [job.worker(i, "--pre_trained", str(initial), num_samples=10) for i in (2, 3)]
    assert [job.status(process) for process in (*same, server)] == [0, 0, 0]


@pytest.mark.parametrize("when", ["epoch: 1 step: 2 ", "epoch 1: 5 steps"], ids=["training", "waiting"])
def test_a_worker_leaves_politely_and_its_lease_with_it(federation, when):
    job = federation(lease=60.0)
    job.server()
    first = job.worker(0, step_seconds=0.2)
    job.wait_log("worker_0.log", when)
    first.send_signal(signal.SIGTERM)
    assert job.status(first) == 0
    assert "leaving, as asked" in job.log("worker_0.log")
    job.worker(0, step_seconds=0.2)
    job.wait(lambda: job.log("worker_0.log").count("takes part") == 2, "the second worker to hold the lease")
