"""A session and the moving average of the weights: over rounds, restarts and missed rounds."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.protocol.client import ServerUnreachable
from tests.support.numpy_trainer import NumpyTrainer
from tests.support.scripted_server import ScriptedServer, model, session


def averaging():
    return NumpyTrainer("silo_0", ema_decay=0.8)


def by_hand(models):
    """Weights and average after each round of 5 steps that began from ``models``."""
    reference = NumpyTrainer("silo_0")
    average, rounds = None, []
    for value in models:
        reference.set_weights(model(value))
        average = average or reference.get_weights()
        for _ in range(5):
            reference.train(1, lambda record: None)
            average = {name: 0.8 * average[name] + 0.2 * w for name, w in reference.get_weights().items()}
        rounds.append((reference.get_weights(), average))
    return rounds


def assert_equal(found, expected, **tolerance):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].reshape(-1), array.reshape(-1), err_msg=name, **tolerance)


def test_the_last_round_takes_the_average_over_all_rounds(tmp_path):
    server = ScriptedServer(["good", "good", "good"], rounds=3)
    assert session(server, tmp_path, averaging()).run() == 0
    rounds = by_hand([0, 1, 2])
    assert_equal(server.pushed[0], rounds[0][0], rtol=1e-6)
    assert_equal(server.pushed[1], rounds[1][0], rtol=1e-6)
    assert_equal(server.pushed[2], rounds[2][1], rtol=1e-4, atol=1e-6)
    held = [read_checkpoint(tmp_path / "ckpt" / f"mindrecord_0-net-{n}epoch.ckpt") for n in range(3)]
    assert [info.round for _, info in held] == [1, 2, 3]
    assert_equal(held[1][0], rounds[1][1], rtol=1e-4, atol=1e-6)
    assert_equal(held[2][0], model(3))


def test_a_failed_last_round_pushes_the_same_average_again(tmp_path):
    server, trainer = ScriptedServer(["good", "failed", "failed", "good"], rounds=2), averaging()
    assert session(server, tmp_path, trainer).run() == 0
    assert trainer.step == 10 and len(server.pushed) == 4
    for pushed in server.pushed[1:]:
        assert_equal(pushed, by_hand([0, 1])[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lived", [1, 2, 3], ids=lambda lived: f"killed_in_round_{lived}")
def test_a_restarted_worker_goes_on_with_its_average(tmp_path, lived):
    first = ScriptedServer(["good"] * (lived - 1) + ["stopped"], rounds=3)
    session(first, tmp_path, averaging()).run()
    second = ScriptedServer(["good"] * (4 - lived), rounds=3, good=lived - 1)
    trainer = averaging()
    assert session(second, tmp_path, trainer).run() == 0
    assert trainer.step == 15
    assert_equal(second.pushed[-1], by_hand([0, 1, 2])[2][1], rtol=1e-4, atol=1e-6)


def test_rounds_that_were_missed_are_steps_at_their_model(tmp_path):
    class Away(ScriptedServer):
        def get_model(self, iteration, wait=0.0):
            if iteration == 1:
                self.good = 3  # two rounds went on without this silo
            return super().get_model(iteration, wait)

    trainer = averaging()
    server = Away(["good", "good"], rounds=5)
    assert session(server, tmp_path, trainer).run() == 0
    reference = averaging()
    reference.set_weights(model(0))
    reference.train(5, lambda record: None)
    reference.set_weights(model(4), missed_steps=15)
    reference.train(5, lambda record: None)
    assert_equal(server.pushed[-1], reference.final_weights())


def test_the_number_of_rounds_is_asked_in_each(tmp_path):
    class Longer(ScriptedServer):
        def push(self, ticket, *arguments):
            self.rounds = 3
            return super().push(ticket, *arguments)

    server = Longer(["good"] * 3, rounds=2)
    assert session(server, tmp_path, averaging()).run() == 0
    rounds = by_hand([0, 1, 2])
    assert_equal(server.pushed[1], rounds[1][0], rtol=1e-6)
    assert_equal(server.pushed[2], rounds[2][1], rtol=1e-4, atol=1e-6)


def test_a_server_that_does_not_say_its_rounds_holds_nothing_up(tmp_path):
    class Silent(ScriptedServer):
        def job(self):
            if self.good:
                raise ServerUnreachable("no server answers")
            return super().job()

    server = Silent(["good", "good"], rounds=2)
    assert session(server, tmp_path, averaging()).run() == 0
    assert_equal(server.pushed[1], by_hand([0, 1])[1][1], rtol=1e-4, atol=1e-6)
