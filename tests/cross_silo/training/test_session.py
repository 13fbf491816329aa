"""A session's decisions, against a server that the test scripts."""

from __future__ import annotations

import numpy as np
import pytest

from cross_silo.checkpoint import read_checkpoint
from cross_silo.errors import UserError
from tests.support.numpy_trainer import NumpyTrainer
from tests.support.scripted_server import ScriptedServer, model, session


def test_rounds_to_the_jobs_end(tmp_path):
    server = ScriptedServer(["good", "pending", "good"], rounds=2)
    assert session(server, tmp_path).run() == 0
    assert server.calls == ["join", "newest", "push", "verdict", "join", "push", "verdict", "verdict", "release"]
    weights, info = read_checkpoint(tmp_path / "ckpt" / "mindrecord_0-net-1epoch.ckpt")
    assert info.round == 2
    assert weights["head.weight"].shape == (4, 3)
    assert all((array == 2).all() for array in weights.values())
    assert (tmp_path / "ckpt" / "mindrecord_0-net-0epoch.ckpt").exists()


def test_training_begins_from_the_global_model_and_keeps_the_optimizer(tmp_path):
    server = ScriptedServer(["good", "good"], rounds=2)
    session(server, tmp_path).run()
    reference = NumpyTrainer("silo_0")
    for value, pushed in enumerate(server.pushed):
        reference.set_weights(model(value))
        reference.train(5, lambda record: None)
        for name, array in reference.get_weights().items():
            np.testing.assert_array_equal(pushed[name], array)


def test_a_failed_round_is_pushed_again_without_training(tmp_path):
    server = ScriptedServer(["failed", "failed", "good"], rounds=1)
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer).run() == 0
    assert trainer.step == 5
    assert len(server.pushed) == 3
    for pushed in server.pushed[1:]:
        for name, array in pushed.items():
            np.testing.assert_array_equal(array, server.pushed[0][name])


def test_a_restarted_worker_goes_on_as_if_never_stopped(tmp_path):
    whole = ScriptedServer(["good"] * 3, rounds=3)
    session(whole, tmp_path / "whole" if (tmp_path / "whole").mkdir() is None else tmp_path).run()

    first = ScriptedServer(["good", "stopped"], rounds=3)
    part = tmp_path / "part"
    part.mkdir()
    session(first, part).run()  # trained for round 2, whose verdict it did not live to see
    second = ScriptedServer(["good", "good"], rounds=3, good=1)
    trainer = NumpyTrainer("silo_0")
    session(second, part, trainer).run()
    assert trainer.step == 15
    for number, pushed in enumerate(first.pushed[:1] + second.pushed):
        for name, array in pushed.items():
            np.testing.assert_array_equal(array, whole.pushed[number][name])


def test_another_instances_state_is_not_used(tmp_path):
    session(ScriptedServer(["good"], rounds=1), tmp_path).run()
    trainer = NumpyTrainer("silo_0")
    server = ScriptedServer(["good"], rounds=1)
    server.instance = "i2"
    session(server, tmp_path, trainer, instance="i2").run()
    assert trainer.step == 5


def test_a_job_begun_anew_is_trained_from_its_model(tmp_path):
    class Anew(ScriptedServer):
        def push(self, ticket, *arguments):
            reply = super().push(ticket, *arguments)
            if len(self.pushed) == 2:  # in round 2 of the first instance
                self.instance, self.good, self.rounds, self.verdicts = "i2", 0, 1, ["failed", "good"]
            return reply

    server = Anew(["good"])
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer).run() == 0
    assert server.calls.count("newest") == 2
    assert (len(server.pushed), trainer.step) == (3, 15)


def test_a_non_finite_loss_is_reported_and_not_pushed(tmp_path):
    server = ScriptedServer([])
    assert session(server, tmp_path, NumpyTrainer("silo_0", nan_at=3)).run() == 1
    assert server.pushed == []
    [(iteration, kind, detail)] = server.reports
    assert (iteration, kind) == (1, "non-finite loss")
    assert "step 3: total_loss: nan" in detail
    assert server.calls[-1] == "release"


def test_a_failed_job_is_status_1_and_a_stopped_one_0(tmp_path):
    assert session(ScriptedServer(["failed job"]), tmp_path).run() == 1
    assert session(ScriptedServer(["stopped"]), tmp_path).run() == 0


def test_refusals_at_the_start_are_waited_out_with_a_deadline(tmp_path):
    server = ScriptedServer(["good"], rounds=1)
    server.refusals = ["round 1 is being aggregated"] * 3
    assert session(server, tmp_path).run() == 0
    server = ScriptedServer([])
    server.refusals = ["not yet"] * 1000
    with pytest.raises(UserError, match="for 0 s .twice round.start_fl_job_time_window.: not yet"):
        session(server, tmp_path, join_deadline=0.0).run()
    assert server.calls[-1] == "release"


def test_a_lost_lease_ends_the_training(tmp_path):
    class SlowTrainer(NumpyTrainer):
        def train(self, steps, on_step):
            current._heartbeat.lost = "taken by another"
            super().train(steps, on_step)

    current = session(ScriptedServer([]), tmp_path, SlowTrainer("silo_0"))
    with pytest.raises(UserError, match="silo lease lost: taken by another"):
        current.run()


def test_a_place_in_a_round_is_waited_for_without_a_deadline(tmp_path):
    class Busy(ScriptedServer):
        def start_round(self, data_size, wait=0.0):
            assert wait > 0  # at the server, not by asking again and again
            ticket = super().start_round(data_size)
            ticket.waits = not ticket.joined
            return ticket

    server = Busy(["good"], rounds=1)
    server.refusals = ["Current amount for startFLJob has reached the threshold. Please startFLJob later."] * 3
    assert session(server, tmp_path, join_deadline=0.0).run() == 0
    assert server.calls.count("join") == 4


def test_a_late_update_is_dropped_and_the_next_round_begins_from_the_newest_model(tmp_path, caplog):
    class GoesOn(ScriptedServer):
        def push(self, ticket, *arguments):
            reply = super().push(ticket, *arguments)
            if len(self.pushed) == 1:  # others made rounds 1 and 2 meanwhile
                self.good = 2
                reply.accepted, reply.reason = False, "round 1 closed without silo silo_0: too late"
            return reply

    server = GoesOn(["good"], rounds=3)
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer).run() == 0
    assert trainer.step == 10
    again = NumpyTrainer("silo_0")
    for value in (0, 2):
        again.set_weights(model(value))
        again.train(5, lambda record: None)
    for name, array in again.get_weights().items():
        np.testing.assert_array_equal(server.pushed[1][name], array)
    assert "the update of 5 steps (0 s) is not taken: round 1 closed without silo silo_0: too late" in caplog.text


class HeardOf(NumpyTrainer):
    """After its second step the heartbeat's reply is there, of a job that made rounds 1 and 2 meanwhile."""

    def train(self, steps, on_step):
        def then(record):
            if record.step == 2:
                self.server.good = 2
                self.session._heartbeat.heard = self.server.heartbeat()
            on_step(record)

        super().train(steps, then)


def test_a_round_that_closed_meanwhile_is_not_trained_to_its_end(tmp_path, caplog):
    server, trainer = ScriptedServer(["good"], rounds=3), HeardOf("silo_0", ema_decay=0.8)
    trainer.server, trainer.session = server, session(server, tmp_path, trainer)
    assert trainer.session.run() == 0
    assert server.calls == ["join", "newest", "join", "newest", "push", "verdict", "release"]
    again = NumpyTrainer("silo_0", ema_decay=0.8)
    again.set_weights(model(0))
    again.train(2, lambda record: None)
    again.set_weights(model(2), missed_steps=5 + 3)  # round 2's, and those of round 1 that it did not take
    again.train(5, lambda record: None)
    for name, array in again.final_weights().items():
        np.testing.assert_array_equal(server.pushed[0][name], array)
    assert "round 1 closed without this silo after 2 of 5 steps (0 s); it goes on from the newest model" in caplog.text


def test_what_is_heard_of_another_instance_of_the_job_ends_no_training(tmp_path):
    server, trainer = ScriptedServer(["good"], rounds=1), HeardOf("silo_0")
    trainer.server, trainer.session = ScriptedServer([]), session(server, tmp_path, trainer)
    trainer.server.instance = "i0"
    assert trainer.session.run() == 0
    assert (trainer.step, len(server.pushed)) == (5, 1)


def test_a_round_that_closed_before_its_model_came_is_not_trained_for(tmp_path):
    class Fast(ScriptedServer):
        def get_model(self, iteration, wait=0):
            if iteration is None and self.good == 0:  # it closes with others between the join and this
                self.good = 1
            return super().get_model(iteration, wait)

    server = Fast(["good"], rounds=2)
    trainer = NumpyTrainer("silo_0")
    assert session(server, tmp_path, trainer).run() == 0
    assert trainer.step == 5
    assert server.calls == ["join", "newest", "join", "push", "verdict", "release"]
