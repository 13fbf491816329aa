"""A job's description, its checkpoints, and beginning anew."""

import json

import numpy as np
import pytest

from cross_silo.aggregation.job import Job, changed_settings
from cross_silo.checkpoint import (
    STATISTIC,
    TRAINABLE,
    CheckpointInfo,
    content_sha256,
    list_checkpoints,
    model_fingerprint,
    newest_checkpoint,
    read_checkpoint,
)
from cross_silo.config.federated import Evaluation, FederatedConfig
from cross_silo.errors import UserError

WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "mean": np.float32([1]), "step": np.int32([7])}
FLAT = {"w": WEIGHTS["w"].reshape(-1), "mean": WEIGHTS["mean"]}


def make(directory, info=CheckpointInfo(kinds={"mean": STATISTIC}), **settings):  # noqa: B008
    return Job(FederatedConfig(fl_name="job", **settings), WEIGHTS, info, directory, "i_1")


def test_what_takes_part(tmp_path):
    job = make(tmp_path)
    kinds = {"w": TRAINABLE, "mean": STATISTIC}
    assert job.shapes == {"w": (2, 3), "mean": (1,)}
    assert (job.sizes, job.model_bytes) == ({"w": 6, "mean": 1}, 28)
    assert job.info.fingerprint == model_fingerprint(job.shapes, kinds)
    assert job.info.initial_sha256 == content_sha256({"w": WEIGHTS["w"], "mean": WEIGHTS["mean"]})
    assert json.loads(job.fields()["settings"])["fl_name"] == "job"


def test_a_checkpoint_without_float32(tmp_path):
    with pytest.raises(UserError, match="has no float32 tensor"):
        Job(FederatedConfig(), {"step": np.int32([1])}, CheckpointInfo(), tmp_path, "i")


def test_saved_checkpoints_carry_job_and_round(tmp_path):
    job = make(tmp_path, CheckpointInfo(classes=("a",), pre_trained_sha256="p", initial_sha256="s"))
    path = job.save(4, FLAT)
    tensors, info = read_checkpoint(path)
    np.testing.assert_array_equal(tensors["w"], WEIGHTS["w"])
    assert (info.fl_name, info.instance, info.round, info.classes) == ("job", "i_1", 4, ("a",))
    assert (info.pre_trained_sha256, info.initial_sha256) == ("p", "s")


def test_rounds_that_await_evaluation(tmp_path):
    job = make(tmp_path, fl_iteration_num=7, evaluation=Evaluation("a", "b", every=2))
    for n in range(8):
        job.save(n, FLAT)
    assert job.awaiting_evaluation({0, 2}) == {4, 6, 7}


def test_beginning_anew_moves_earlier_checkpoints_aside(tmp_path):
    job = make(tmp_path)
    for n in (0, 1, 2):
        job.save(n, FLAT)
    job.begin_anew(FederatedConfig(fl_name="job", fl_iteration_num=99), "i_2", FLAT)
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [0]
    info = read_checkpoint(newest_checkpoint(tmp_path, "job"))[1]
    assert (info.instance, info.round, info.initial_sha256) == ("i_2", 0, content_sha256(FLAT))
    assert [n for n, _ in list_checkpoints(tmp_path / "instance_i_1", "job")][-2:] == [1, 2]
    assert (job.instance, job.config.fl_iteration_num) == ("i_2", 99)


def test_a_disk_that_refuses_leaves_the_job_as_it_was(tmp_path, monkeypatch):
    job = make(tmp_path)
    job.save(3, FLAT)

    def refuse(*args):
        raise OSError("full")

    monkeypatch.setattr(job, "save", refuse)
    with pytest.raises(OSError, match="full"):
        job.begin_anew(job.config, "i_2", FLAT)
    assert (job.instance, job.info.instance) == ("i_1", "i_1")
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [3]


def test_changed_settings():
    config = FederatedConfig(silos=2)
    changes = {"fl_iteration_num": 3, "client_epoch_num": 5, "start_fl_job_time_window": 7, "max_uploads": 9}
    changed = changed_settings(config, changes)
    assert (changed.fl_iteration_num, changed.client.client_epoch_num) == (3, 5)
    assert (changed.round.start_fl_job_time_window, changed.round.max_uploads) == (7, 9)
    assert changed.round.update_model_time_window == config.round.update_model_time_window
    with pytest.raises(ValueError, match="unknown setting 'fl_name'"):
        changed_settings(config, {"fl_name": "other"})
    with pytest.raises(ValueError, match="start_fl_job_threshold is 3"):
        changed_settings(config, {"start_fl_job_threshold": 3})
