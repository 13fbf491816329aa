"""What a server of the wheel does when an iteration has ended, without the wheel."""

from types import SimpleNamespace

import numpy as np
import pytest
import redis

from cross_silo.aggregation.job import Job
from cross_silo.checkpoint import CheckpointInfo, list_checkpoints, read_checkpoint
from cross_silo.config.federated import FederatedConfig
from cross_silo.engines.mindspore_federated.server import Callbacks

WEIGHTS = {"a": np.ones((2, 2), np.float32), "b": np.zeros(3, np.float32)}


class Record:
    """Verdicts; Redis is away as often as ``away`` says."""

    def __init__(self):
        self.verdicts, self.away = [], 0

    def add_verdict(self, verdict):
        if self.away:
            self.away -= 1
            raise redis.ConnectionError("away")
        self.verdicts.append(verdict)


@pytest.fixture
def server(tmp_path):
    """Callbacks of a job whose newest checkpoint is that of round 0, and what they tell."""
    job = Job(FederatedConfig(fl_name="job"), WEIGHTS, CheckpointInfo(fl_name="job"), tmp_path, "i")
    job.save(0, WEIGHTS)
    record = Record()
    calls = Callbacks(job, record, tmp_path, "127.0.0.1:1")

    def end(iteration, valid=True, reason="", **changes):
        tensors = {**WEIGHTS, **changes}
        features = [SimpleNamespace(feature_name=n, data=t.reshape(-1)) for n, t in tensors.items() if t is not None]
        calls.iteration_ended(features, "job", "any", iteration, valid, reason)
        return record.verdicts[-1] if record.verdicts else None

    return SimpleNamespace(end=end, record=record, directory=tmp_path)


def rounds(server):
    return [round for round, _ in sorted(list_checkpoints(server.directory, "job"))]


def test_a_good_iteration_is_a_round_with_a_checkpoint(server):
    verdict = server.end(7, a=WEIGHTS["a"] * 5)
    assert (verdict.iteration, verdict.good, verdict.round) == (7, True, 1)
    tensors, info = read_checkpoint(verdict.checkpoint)
    assert info.round == 1 and np.all(tensors["a"] == 5)
    assert server.end(8).round == 2 and rounds(server) == [0, 1, 2]


def test_a_failed_iteration_is_none(server):
    verdict = server.end(7, valid=False, reason="Global timer timeout!")
    assert (verdict.good, verdict.reason, verdict.round) == (False, "Global timer timeout!", 0)
    assert rounds(server) == [0]


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"a": None}, "lacks a"),
        ({"a": np.float32([[1, np.nan], [1, 1]])}, "not finite"),
        ({"a": np.zeros((2, 2), np.float32)}, "all zeros"),
    ],
    ids=["a tensor is missing", "nan", "what the engine stores where a sum overflows"],
)
def test_what_the_engine_calls_good_and_is_not(server, changes, reason):
    verdict = server.end(7, **changes)
    assert not verdict.good and reason in verdict.reason and rounds(server) == [0]


def test_a_checkpoint_that_cannot_be_written_fails_the_round(server, monkeypatch):
    monkeypatch.setattr(Job, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    verdict = server.end(7)
    assert not verdict.good and "No space left on device" in verdict.reason


def test_verdicts_that_redis_does_not_take_follow_in_order(server):
    server.record.away = 1
    assert server.end(7) is None
    server.end(8, valid=False, reason="Global timer timeout!")
    assert [(v.iteration, v.good) for v in server.record.verdicts] == [(7, True), (8, False)]
