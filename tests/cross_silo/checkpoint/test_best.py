"""The best model by a metric, beside the checkpoints."""

import datetime
import os

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, newest_checkpoint, read_checkpoint, write_checkpoint
from cross_silo.checkpoint.best import best_files, keep_best, read_best

WHEN = datetime.datetime(2026, 1, 31, 12, 0, 0)


@pytest.fixture
def rounds(tmp_path):
    for n in range(4):
        weights = {"w": np.full(8, n, np.float32)}
        write_checkpoint(checkpoint_path(tmp_path, "job", n, WHEN), weights, CheckpointInfo(fl_name="job", round=n))
    return tmp_path


def values(*accuracies):
    return {n: {"AP50": value, "AP": 1 - value} for n, value in enumerate(accuracies)}


def keep(directory, evaluations, metric="AP50", instance="i"):
    return keep_best(directory, "job", instance, metric, evaluations)


def round_of(best):
    return int(read_checkpoint(best.checkpoint)[0]["w"][0])


def test_the_best_by_each_metric_and_the_earlier_of_equals(rounds):
    best = keep(rounds, values(0.1, 0.5, 0.5, 0.2))
    assert (best.round, best.value, round_of(best)) == (1, 0.5, 1)
    assert read_best(rounds, "job", "i") == best
    best = keep(rounds, values(0.1, 0.5, 0.5, 0.2), metric="AP", instance="j")
    assert (best.round, round_of(best)) == (0, 0)


def test_it_changes_only_for_a_better_one_and_outlives_its_checkpoint(rounds):
    keep(rounds, values(0.1, 0.5))
    for path in rounds.glob("*iteration_1_*"):
        path.unlink()
    assert keep(rounds, values(0.1, 0.5, 0.4)).round == 1
    assert keep(rounds, values(0.1)).round == 1  # what Redis lost does not lose the best
    best = keep(rounds, {3: {"AP50": 0.6}, 9: {"AP50": 0.9}})  # 9 has no checkpoint
    assert (best.round, round_of(best)) == (3, 3)
    assert sorted(path.name for path in rounds.glob("*best*")) == ["job_best.ckpt", "job_best.json"]
    assert not list(rounds.glob(".*"))


def test_it_is_not_gone_on_from(rounds):
    keep(rounds, values(0.9, 0.1))
    for path in rounds.glob("*iteration_[123]_*"):
        path.unlink()
    newest_checkpoint(rounds, "job").unlink()
    assert best_files(rounds, "job")[0].exists()
    assert newest_checkpoint(rounds, "job") is None


def test_another_run_of_the_job_has_a_best_of_its_own(rounds):
    keep(rounds, values(0.1, 0.9))
    assert read_best(rounds, "job", "other") is None
    assert keep(rounds, values(0.1), instance="other").round == 0


def test_a_file_system_without_hard_links(rounds, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert round_of(keep(rounds, values(0.1, 0.2, 0.3))) == 2


def test_nothing_measured_keeps_nothing(rounds):
    assert keep(rounds, {1: {"AP50": None}}) is None
    assert keep(rounds, {}) is None
    assert not best_files(rounds, "job")[0].exists()
