"""The randomised kills: what they would call a loss, and in the long suite that there is none."""

import datetime
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, checkpoint_path, write_checkpoint

TOOL = Path(__file__).parents[3] / "tools" / "benchmarks" / "chaos.py"
PARTICIPANTS = [["silo_0", "silo_1"], ["silo_0", "silo_1", "silo_2"], ["silo_1", "silo_2"]]


@pytest.fixture
def chaos(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    return importlib.import_module("chaos")


@pytest.fixture
def job(chaos, tmp_path):
    """A job that made three rounds; silo_i adds 10^i with 10 (i + 1) images."""
    value = (10 * 1 + 20 * 10) / 30 + (10 * 1 + 20 * 10 + 30 * 100) / 60 + (20 * 10 + 30 * 100) / 50
    (tmp_path / "server.log").write_text("".join(f"server_0 INFO round {n} good: 2 silos\n" for n in (1, 2, 3)))
    made = SimpleNamespace(name="job", directory=tmp_path, checkpoints=tmp_path, silos=["silo_0", "silo_1", "silo_2"])
    made.records = [
        {"round": n, "good": True, "participants": [{"silo": silo} for silo in silos]}
        for n, silos in enumerate(PARTICIPANTS, 1)
    ]

    def losses(value=value):
        path = checkpoint_path(tmp_path, "job", 3, datetime.datetime(2020, 1, 1))
        write_checkpoint(path, {"w": np.full(4, value, np.float32)}, CheckpointInfo(round=3))
        return chaos.losses(made, {"rounds": made.records, "good_rounds": 3}, least=2)

    made.losses = losses
    made.value = value
    return made


def test_nothing_is_lost(job):
    job.records.insert(1, {"round": 2, "good": False, "participants": []})
    assert job.losses() == []


def test_an_update_too_many_or_too_few_is_a_loss(job):
    for wrong in (20 * 10 / 30, -(10 * 1) / 30):
        [loss] = job.losses(job.value + wrong)
        assert "an update is missing or counted twice" in loss


def test_a_round_twice_or_never_is_a_loss(job):
    first = job.records.pop(0)
    assert any("not each of 1 to 3 has one: [1]" in loss for loss in job.losses())
    job.records += [first, first]
    assert any("of 4 records of good rounds" in loss for loss in job.losses())


def test_a_round_recorded_from_its_checkpoint_alone_may_have_any_participants(job):
    job.records[1]["participants"] = []
    assert job.losses() == []
    assert job.losses(job.value + 1) != []


@pytest.mark.long
def test_a_minute_of_kills_loses_nothing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TOOL.parents[2])}
    command = [sys.executable, str(TOOL), "--minutes", "1", "--work_dir", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["losses"] == [] and found["good_rounds"] > 3 and sum(found["kills"].values()) > 3
    assert list(tmp_path.iterdir()) == []
