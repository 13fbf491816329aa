"""Which checkpoint of a job is newest, and which go."""

import datetime
import logging

import numpy as np

from cross_silo.checkpoint import (
    CheckpointInfo,
    checkpoint_path,
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    write_checkpoint,
)

WHEN = datetime.datetime(2026, 1, 31, 12, 0, 5)


def save(directory, round, fl_name="job", fingerprint="f", when=WHEN):
    path = checkpoint_path(directory, fl_name, round, when)
    write_checkpoint(
        path, {"t": np.full(50, round, np.float32)}, CheckpointInfo(fl_name, round=round, fingerprint=fingerprint)
    )
    return path


def test_name():
    assert checkpoint_path("d", "job", 12, WHEN).as_posix() == "d/job_recovery_iteration_12_20260131_120005.ckpt"


def test_newest_is_the_highest_round_by_number(tmp_path):
    save(tmp_path, 9)
    newest = save(tmp_path, 10)
    save(tmp_path, 2)
    assert newest_checkpoint(tmp_path, "job") == newest
    assert [round for round, _ in list_checkpoints(tmp_path, "job")] == [2, 9, 10]


def test_of_one_round_the_latest_file_counts(tmp_path):
    later = save(tmp_path, 3, when=WHEN + datetime.timedelta(hours=1))
    save(tmp_path, 3)
    assert newest_checkpoint(tmp_path, "job") == later


def test_other_jobs_and_other_files_are_not_ours(tmp_path):
    save(tmp_path, 5, fl_name="job_2")
    save(tmp_path, 6, fl_name="a_job")
    for name in ("job_recovery_iteration_x_20260131_120005.ckpt", "job_recovery_iteration_7.ckpt", "notes.txt"):
        (tmp_path / name).write_text("")
    assert list_checkpoints(tmp_path, "job") == []
    assert newest_checkpoint(tmp_path, "job") is None
    assert newest_checkpoint(tmp_path / "absent", "job") is None


def test_damaged_ones_are_passed_over_with_a_warning(tmp_path, caplog):
    good = save(tmp_path, 1)
    for round, size in ((2, 100), (3, 0)):
        bad = save(tmp_path, round)
        bad.write_bytes(bad.read_bytes()[:size])
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path, "job") == good
    assert len(caplog.records) == 2
    assert "iteration_2" in caplog.text and "iteration_3" in caplog.text


def test_another_model_is_passed_over_with_a_warning(tmp_path, caplog):
    ours = save(tmp_path, 1, fingerprint="f")
    save(tmp_path, 2, fingerprint="g")
    assert newest_checkpoint(tmp_path, "job", "f") == ours
    assert "another model" in caplog.text
    assert newest_checkpoint(tmp_path, "job", "h") is None


def test_pruning_keeps_the_newest_rounds_and_the_protected(tmp_path):
    for round in range(8):
        save(tmp_path, round)
    other = save(tmp_path, 0, fl_name="other")
    left_over = tmp_path / ".job_recovery_iteration_4_20260131_120005.ckpt.1.tmp"
    left_over.write_text("half")
    prune_checkpoints(tmp_path, "job", keep=3, protect={0, 2})
    assert [round for round, _ in list_checkpoints(tmp_path, "job")] == [0, 2, 5, 6, 7]
    assert other.exists() and not left_over.exists()


def test_pruning_by_rounds_not_files(tmp_path):
    for round in (1, 2, 3):
        save(tmp_path, round)
    save(tmp_path, 3, when=WHEN + datetime.timedelta(seconds=1))
    prune_checkpoints(tmp_path, "job", keep=2)
    assert [round for round, _ in list_checkpoints(tmp_path, "job")] == [2, 3, 3]
