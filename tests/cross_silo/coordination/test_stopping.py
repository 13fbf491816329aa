"""When a stop condition was first met, by the rounds and evaluations in the store."""

import pytest

from cross_silo.config.stop_condition import StopCondition
from cross_silo.coordination.stopping import Fired, StopCheck, first_met


def comparison(metric, operator, threshold, **more):
    return StopCondition(metric=metric, operator=operator, threshold=threshold, **more)


def record(round, loss=1.0, good=True, ended=None, samples=(10, 30)):
    losses = loss if isinstance(loss, tuple) else (loss,) * len(samples)
    participants = [{"silo": str(i), "samples": n, "loss": x} for i, (n, x) in enumerate(zip(samples, losses))]
    ended = 100.0 + round if ended is None else ended
    return {"round": round, "good": good, "participants": participants, "ended": ended, "seconds": {"round": 1.0}}


def test_rounds_are_good_ones():
    records = [record(1), record(2, good=False), record(2), record(3)]
    assert first_met(comparison("rounds", ">=", 3), records, {}, 100) == Fired("rounds >= 3 (3)", 3)
    assert first_met(comparison("rounds", ">", 3), records, {}, 100) is None


def test_a_late_look_finds_what_was_true_when_the_round_ended():
    records = [record(n) for n in range(1, 9)]
    assert first_met(comparison("rounds", "=", 3), records, {}, 100).round == 3
    assert first_met(comparison("wall_time", ">=", 4), records, {}, 100) == Fired("wall_time >= 4 s (4)", 4)


def test_the_mean_loss_is_weighted_by_samples():
    condition = comparison("delta_loss", "<=", 0.25, patience=1, min_rounds=0)
    records = [record(1, (1.0, 1.0)), record(2, (1.0, 0.5))]  # the mean falls by 0.375
    assert first_met(condition, records, {}, 100) is None
    records.append(record(3, (1.0, 0.25)))  # and by 0.1875
    assert first_met(condition, records, {}, 100).round == 3
    records[1] = record(2, (None, None))
    assert first_met(condition, records, {}, 100) is None


def test_failed_rounds_do_not_count_for_the_loss_but_their_time_does():
    condition = comparison("delta_loss", "<", 0.1, patience=2, min_rounds=0)
    records = [record(1, 1.0), record(2, 9.0, good=False), record(2, 1.05), record(3, 1.06)]
    assert first_met(condition, records, {}, 100).round == 3
    records[1]["ended"] = 500.0
    assert first_met(comparison("wall_time", ">=", 400), records, {}, 100).round == 1


def test_accuracy_of_the_last_evaluated_round():
    condition = comparison("target_accuracy", ">=", 0.5, of="map50")
    records = [record(n) for n in range(1, 6)]
    evaluations = {0: {"AP50": 0.0, "AP": 0.0}, 2: {"AP50": 0.4, "AP": 0.9}}
    assert first_met(condition, records, evaluations, 100) is None
    evaluations[4] = {"AP50": 0.5, "AP": 0.2}
    assert first_met(condition, records, evaluations, 100) == Fired("map50 >= 0.5 (0.5)", 4)
    evaluations[4] = {"AP50": float("nan"), "AP": None}
    assert first_met(condition, records, evaluations, 100) is None


def test_a_server_that_was_started_again_does_not_turn_back_the_clock():
    records = [record(1, ended=101.0), record(2, ended=200.0)]
    assert first_met(comparison("wall_time", ">=", 100), records, {}, 190.0).round == 2


def test_each_round_is_looked_at_once(store):
    store.begin({"instance": "a", "started": 100.0})
    check = StopCheck(comparison("rounds", ">=", 2))
    store.add_round(record(1))
    assert check.look(store, store.job()) is None
    asked = []
    rounds = store.rounds
    store.rounds = lambda: asked.append(1) or rounds()
    assert check.look(store, store.job()) is None
    assert asked == []
    store.add_round(record(2))
    assert [check.look(store, store.job()) for _ in range(3)] == [Fired("rounds >= 2 (2)", 2)] * 3
    assert asked == [1]
    store.clear()
    store.begin({"instance": "b", "started": 300.0})
    assert check.look(store, store.job()) is None


@pytest.mark.parametrize("evaluated", [True, False])
def test_an_evaluation_is_looked_at_when_it_comes_in(store, evaluated):
    store.begin({"instance": "a", "started": 100.0})
    check = StopCheck(comparison("target_accuracy", ">", 0.5, of="map"))
    store.add_round(record(1))
    assert check.look(store, store.job()) is None
    if evaluated:
        store.add_evaluation(1, {"AP": 0.6, "AP50": 0.7})
    assert bool(check.look(store, store.job())) is evaluated


def test_without_a_condition_nothing_is_asked():
    assert StopCheck(StopCondition()).look(None, {}) is None
