"""A session measures each global model on its silo's own images, whatever happens meanwhile."""

from __future__ import annotations

import numpy as np

from cross_silo.errors import UserError
from cross_silo.training.leave import Leave
from tests.support.numpy_trainer import NumpyTrainer
from tests.support.scripted_server import ScriptedServer, session


def weight_of(trainer):
    """A measurement that tells which model the trainer holds: its number, as AP50."""

    def measure(before_batch):
        before_batch()
        return {"AP": 0.0, "AP50": float(trainer.get_weights()["head.weight"].flat[0]), "AP75": 0.0}

    return measure


def test_each_global_model_is_measured_as_it_came_the_last_one_too(tmp_path):
    server = ScriptedServer(["good", "failed", "good", "good"], rounds=3)
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer, weight_of(trainer)).run() == 0
    assert server.told == [("i1", 0, 0.0), ("i1", 1, 1.0), ("i1", 2, 2.0), ("i1", 3, 3.0)]
    assert server.calls[:4] == ["newest", "measured", "join", "push"]
    assert server.calls[-3:] == ["verdict", "measured", "release"]


def test_rounds_between_measurements_and_the_last(tmp_path):
    server = ScriptedServer(["good"] * 5, rounds=5)
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer, weight_of(trainer), measure_every=2).run() == 0
    assert [round for _, round, _ in server.told] == [0, 2, 4, 5]


def test_measuring_does_not_change_the_training(tmp_path):
    pushed = []
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
        server, trainer = ScriptedServer(["good", "good"], rounds=2), NumpyTrainer("silo_0")
        session(server, tmp_path / name, trainer, weight_of(trainer) if name == "with" else None).run()
        pushed.append(server.pushed)
    for without, with_measure in zip(*pushed):
        for name, array in without.items():
            np.testing.assert_array_equal(array, with_measure[name])


def test_a_restarted_worker_keeps_its_update_before_it_measures(tmp_path):
    session(ScriptedServer(["stopped"]), tmp_path).run()
    server, trainer = ScriptedServer(["good"], rounds=1), NumpyTrainer("silo_0")
    session(server, tmp_path, trainer, weight_of(trainer)).run()
    assert trainer.step == 5 and server.told == [("i1", 1, 1.0)]


def test_a_worker_that_left_while_it_measured_measures_when_it_is_back(tmp_path):
    leave = Leave()
    trainer = NumpyTrainer("silo_0")
    plain = weight_of(trainer)

    def measure(before_batch):
        if trainer.step:
            leave.request()
        return plain(before_batch)

    server = ScriptedServer(["good", "good"], rounds=2)
    assert session(server, tmp_path, trainer, measure, leave).run() == 0
    assert [round for _, round, _ in server.told] == [0]
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer, weight_of(trainer)).run() == 0
    assert server.told == [("i1", 0, 0.0), ("i1", 1, 1.0), ("i1", 2, 2.0)] and trainer.step == 10


def test_a_measurement_that_fails_does_not_end_the_training(tmp_path, caplog):
    def measure(before_batch):
        raise UserError("image 3: 3.png: No such file")

    server = ScriptedServer(["good", "good"], rounds=2)
    assert session(server, tmp_path, measure=measure).run() == 0
    assert server.told == [] and len(server.pushed) == 2
    assert "the model of round 1 is not measured: image 3: 3.png: No such file" in caplog.text


def test_a_measurement_is_left_between_batches(tmp_path):
    leave = Leave()

    def measure(before_batch):
        leave.request()
        before_batch()
        raise AssertionError("went on")

    server = ScriptedServer(["good"], rounds=1)
    assert session(server, tmp_path, measure=measure, leave=leave).run() == 0
    assert server.calls == ["newest", "release"]
