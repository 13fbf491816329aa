"""A session's decisions, against a server that the test scripts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Dict, List, Optional

import numpy as np
import pytest

from cross_silo.checkpoint import CheckpointInfo, read_checkpoint
from cross_silo.errors import UserError
from cross_silo.protocol.client import ServerUnreachable
from cross_silo.training.leave import Leave
from cross_silo.training.progress import Progress
from cross_silo.training.session import RoundPlan, WorkerSession
from tests.support.numpy_trainer import SHAPES, NumpyTrainer

FOREVER = 1000.0


def model(value: float) -> Dict[str, np.ndarray]:
    return {name: np.full(int(np.prod(shape)), value, np.float32) for name, shape in SHAPES.items()}


class ScriptedServer:
    """A client whose server gives the verdicts that the test lists; a good round's model is its number."""

    def __init__(self, verdicts: List[str], rounds: int = 1000, good: int = 0) -> None:
        self.verdicts = list(verdicts)
        self.good = good
        self.rounds = rounds
        self.attempt = 1
        self.instance = "i1"
        self.pushed: List[Dict[str, np.ndarray]] = []
        self.calls: List[str] = []
        self.reports: List[tuple] = []
        self.refusals: List[str] = []
        self.told: List[tuple] = []

    @property
    def state(self) -> str:
        return "finished" if self.good >= self.rounds else "running"

    def job(self):
        return SimpleNamespace(reason="told so", fl_iteration_num=self.rounds)

    def heartbeat(self, **info):
        return SimpleNamespace(state=self.state)

    def start_round(self, data_size, wait=0.0):
        self.calls.append("join")
        if self.refusals:
            return SimpleNamespace(
                iteration=self.good + 1,
                attempt=1,
                joined=False,
                waits=False,
                reason=self.refusals.pop(),
                state=self.state,
                instance=self.instance,
            )
        return SimpleNamespace(
            iteration=self.good + 1,
            attempt=self.attempt,
            joined=True,
            waits=False,
            reason="",
            state=self.state,
            instance=self.instance,
        )

    def push(self, ticket, weights, data_size, loss, stats):
        self.calls.append("push")
        self.pushed.append({name: np.array(array) for name, array in weights.items()})
        return SimpleNamespace(accepted=True, reason="", state="running")

    def get_model(self, iteration: Optional[int], wait: float = 0):
        self.calls.append("newest" if iteration is None else "verdict")
        if iteration is not None:
            verdict = self.verdicts.pop(0)
            if verdict != "good":
                self.attempt += verdict == "failed"
                state = verdict if verdict in ("stopped", "failed job") else "running"
                return SimpleNamespace(
                    verdict="pending" if state != "running" else verdict,
                    reason="silo_1 left",
                    round=self.good,
                    weights=None,
                    state=state.split()[0],
                )
            self.good += 1
            self.attempt = 1
        return SimpleNamespace(verdict="good", reason="", round=self.good, weights=model(self.good), state=self.state)

    def report(self, iteration, kind, detail):
        self.reports.append((iteration, kind, detail))

    def measured(self, instance, round, metrics):
        self.calls.append("measured")
        self.told.append((instance, round, metrics["AP50"]))

    def release(self):
        self.calls.append("release")


def session(server, tmp_path, trainer=None, measure=None, leave=None, **plan):
    trainer = trainer or NumpyTrainer("silo_0")
    (tmp_path / "ckpt").mkdir(exist_ok=True)
    return WorkerSession(
        server,
        trainer,
        Progress(trainer, tmp_path / "loss_0.log", batch_size=2),
        RoundPlan(steps=5, **{"instance": "i1", **plan}),
        state_file=tmp_path / "ckpt" / "state.npz",
        checkpoint_prefix=tmp_path / "ckpt" / "mindrecord_0-net",
        info=CheckpointInfo(fl_name="job", kinds=trainer.kinds()),
        lease=FOREVER,
        leave=leave,
        measure=measure,
    )


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
