"""The server's epochs with a trainer of numpy: interrupted anywhere, they end with the same model."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, list_checkpoints, newest_checkpoint, read_checkpoint
from cross_silo.mistnet.epochs import EpochPlan, EpochTraining, train_epochs
from cross_silo.mistnet.trainer_files import Progress, read_progress
from cross_silo.report.loss_log import read_loss_log
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

EPOCHS, STEPS = 5, 4
INITIAL = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}


class Killed(BaseException):
    """In place of a signal."""


class Job:
    def __init__(self, directory, every=2, kill_at=-1, **trainer):
        self.plan = EpochPlan("job", EPOCHS, every, "AP50", directory / "ckpt", directory / "run", 8)
        self.plan.checkpoint_dir.mkdir(exist_ok=True)
        self.trainer = NumpyTrainer("pooled", steps_per_epoch=STEPS, **trainer)
        self.progress = read_progress(self.plan.run_dir) or Progress()
        self.progress.instance = "i_1"
        self.measured, self.checks, self.kill_at = [], 0, kill_at
        self.info = CheckpointInfo(fl_name="job", instance="i_1", classes=("a",), kinds=self.trainer.kinds())

    def check(self):
        self.checks += 1
        if self.checks == self.kill_at:
            raise Killed

    def measure(self, before_batch):
        before_batch()
        self.measured.append(self.trainer.step)
        return {"AP": 0.1, "AP50": 0.9 if self.trainer.step == 2 * STEPS else 0.5, "AP75": 0.0}

    def run(self):
        path = newest_checkpoint(self.plan.checkpoint_dir, "job")
        weights, epoch = INITIAL, 0
        if path is not None:
            weights, info = read_checkpoint(path)
            epoch = info.round
        training = EpochTraining(self.trainer, self.measure, self.plan, self.info, self.progress, self.check)
        return train_epochs(training, weights, epoch, self.progress, self.plan.run_dir)


def final(directory):
    return read_checkpoint(newest_checkpoint(directory / "ckpt", "job"))[0]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reference")
    assert Job(directory).run() == 0
    return final(directory)


def test_every_epoch_is_told_and_the_best_model_is_kept(tmp_path, reference):
    job = Job(tmp_path)
    assert job.run() == 0
    told = read_progress(job.plan.run_dir)
    assert [entry["epoch"] for entry in told.records] == [1, 2, 3, 4, 5]
    assert [entry["steps"] for entry in told.records] == [STEPS] * EPOCHS
    losses = [step.total for step in read_loss_log(tmp_path / "run" / "feature_trainer" / "loss_0.log")]
    assert told.records[1]["loss"] == pytest.approx(np.mean(losses[4:8]), rel=1e-5)
    assert list(told.evaluations) == ["0", "2", "4", "5"]
    assert told.outcome == "done" and told.best["round"] == 2
    trained = NumpyTrainer("pooled")
    trained.set_weights(INITIAL)
    trained.train(EPOCHS * STEPS, lambda record: None)
    for name, array in trained.get_weights().items():
        assert np.array_equal(reference[name], array)
    rounds = [round for round, _ in list_checkpoints(tmp_path / "ckpt", "job")]
    assert rounds == [3, 4, 5] and (tmp_path / "ckpt" / "job_best.ckpt").exists()


@pytest.mark.parametrize("kill_at", [1, 2, 5, 6, 9, 10, 11, 16, 22, 23])
def test_interrupted_anywhere_it_ends_with_the_same_model(tmp_path, reference, kill_at):
    with pytest.raises(Killed):
        Job(tmp_path, kill_at=kill_at).run()
    assert Job(tmp_path).run() == 0
    for name, array in final(tmp_path).items():
        assert np.array_equal(array, reference[name])
    told = read_progress(tmp_path / "run")
    assert [entry["epoch"] for entry in told.records] == [1, 2, 3, 4, 5]
    assert list(told.evaluations) == ["0", "2", "4", "5"]


def test_killed_between_an_epoch_and_its_record(tmp_path, reference, monkeypatch):
    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(EpochTraining, "_tell_epoch", killed)
        Job(tmp_path).run()
    assert [round for round, _ in list_checkpoints(tmp_path / "ckpt", "job")] == [1]
    assert Job(tmp_path).run() == 0
    told = read_progress(tmp_path / "run")
    assert [entry["epoch"] for entry in told.records] == [1, 2, 3, 4, 5] and told.records[0]["loss"] is None
    assert np.array_equal(final(tmp_path)["head.bias"], reference["head.bias"])


def test_the_last_model_is_the_moving_average_and_that_is_measured(tmp_path):
    job = Job(tmp_path, ema_decay=0.9)
    assert job.run() == 0
    other = NumpyTrainer("pooled", ema_decay=0.9)
    other.set_weights(INITIAL)
    other.train(EPOCHS * STEPS, lambda record: None)
    average = other.final_weights()
    assert np.array_equal(final(tmp_path)["head.weight"], average["head.weight"])
    assert np.array_equal(job.trainer.get_weights()["head.weight"], average["head.weight"])


def test_a_loss_that_is_not_finite_fails_the_job(tmp_path):
    job = Job(tmp_path, nan_at=6)
    assert job.run() == 1
    told = read_progress(job.plan.run_dir)
    assert told.outcome == "failed" and "step 6: total_loss: nan" in told.reason


def test_a_lost_state_is_named(tmp_path):
    with pytest.raises(Killed):
        Job(tmp_path, kill_at=12).run()
    [state] = (tmp_path / "run" / "feature_trainer").glob("state_*.npz")
    state.unlink()
    job = Job(tmp_path)
    assert job.run() == 1
    assert "state_2.npz is not there" in job.progress.reason
