"""The keeper's steps over a real Redis, each called by the test."""

import json
import time

import numpy as np
import pytest

from cross_silo.aggregation.guarded_store import GuardedStore
from cross_silo.aggregation.journal import Journal
from cross_silo.aggregation.keeper import Keeper
from cross_silo.checkpoint import list_checkpoints, read_checkpoint
from cross_silo.checkpoint.best import read_best
from cross_silo.config.federated import Evaluation
from cross_silo.config.stop_condition import StopCondition

MEMBER = {"host": "here", "pid": 1, "address": "127.0.0.1:6668"}


@pytest.fixture
def keep(serve, store, tmp_path):
    """Make a served job with its keeper."""

    def make(**settings):
        served = serve(**settings)
        guarded = GuardedStore(store)
        journal = Journal(guarded, tmp_path / "metrics.json", lambda: None)
        served.anew = []
        served.keeper = Keeper(
            guarded, served.aggregator, served.job, journal, MEMBER, served.anew.append, time.monotonic
        )
        served.keeper.begin()
        served.keeper.step()
        return served

    return make


def good_round(served, n):
    """Let round ``n`` happen as far as the keeper sees it."""
    flat = {name: np.zeros(size, np.float32) for name, size in served.job.sizes.items()}
    served.job.save(n, flat)

    def change(rounds):
        for i in range(2):
            rounds.join(f"silo_{i}", "", "", 5)
            rounds.admit(f"silo_{i}", "", n, None)
        for i in range(2):
            rounds.participants[f"silo_{i}"].pushed = True
        rounds.succeed()

    served.aggregator.control(change)
    served.keeper.step()


def test_a_member_while_it_serves(keep, store):
    served = keep()
    assert store.members("server")["here:1"]["address"] == "127.0.0.1:6668"
    job = store.job()
    assert (job["instance"], job["state"], job["iteration"], job["phase"]) == ("i_test", "running", "1", "idle")
    served.keeper.leave()
    assert store.members("server") == {}


def test_the_standing_follows_the_rounds(keep, store):
    served = keep()
    served.aggregator.control(lambda rounds: rounds.join("silo_0", "", "", 5))
    served.keeper.step()
    assert store.job()["phase"] == "joining"
    good_round(served, 1)
    assert (store.job()["iteration"], store.job()["good_rounds"]) == ("2", "1")
    assert [record["round"] for record in store.rounds()] == [1]


def test_the_end_comes_after_the_last_record(keep, store):
    served = keep(fl_iteration_num=1)
    seen = []
    end = store.end
    store.end = lambda *args: (seen.append([r["round"] for r in store.rounds()]), end(*args))[1]
    good_round(served, 1)
    assert seen == [[1]]
    assert store.job()["state"] == "finished"


def test_silos_measurements_reach_redis(keep, store):
    served = keep()
    clients = [served.client(i) for i in range(2)]
    values = {"AP": 0.25, "AP50": 0.5, "AP75": 0.125}
    clients[0].measured("i_test", 0, values)
    good_round(served, 1)
    clients[0].measured("i_test", 1, values)
    clients[1].measured("i_test", 1, {**values, "AP50": 1})
    clients[1].measured("i_test", 2, values)  # there is no such model yet
    clients[1].measured("i_other", 1, values)
    stranger = served.client(5, leased=False)
    stranger.measured("i_test", 1, values)
    served.keeper.step()
    assert store.silo_evaluations() == {
        0: {"silo_0": values},
        1: {"silo_0": values, "silo_1": {**values, "AP50": 1.0}},
    }
    clients[0].measured("i_test", 1, {**values, "AP50": 0.75})  # told again by a restarted worker
    served.keeper.step()
    assert store.silo_evaluations()[1]["silo_0"]["AP50"] == 0.75
    store.clear()
    assert store.silo_evaluations() == {}


def test_requests(keep, store):
    served = keep()
    store.request("disable")
    served.keeper.step()
    assert served.rounds.state == "disabled"
    served.keeper.step()
    assert store.job()["state"] == "disabled"
    store.request("enable")
    store.request("new_instance", {"fl_iteration_num": 5})
    served.keeper.step()
    assert served.rounds.state == "running"
    assert served.anew == [{"fl_iteration_num": 5}]
    store.request("stop", {"reason": "enough"})
    served.keeper.step()
    served.keeper.step()
    assert (store.job()["state"], store.job()["reason"]) == ("stopped", "enough")


def test_a_lost_record_is_written_again(keep, store):
    served = keep()
    good_round(served, 1)
    store.clear()
    good_round(served, 2)
    assert store.job()["instance"] == "i_test"
    assert [record["round"] for record in store.rounds()] == [1, 2]


def test_three_checkpoints_are_kept(keep, tmp_path):
    served = keep(fl_iteration_num=9)
    for n in range(1, 7):
        good_round(served, n)
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [4, 5, 6]


def test_checkpoints_that_a_live_evaluator_needs_are_kept(keep, store, tmp_path):
    served = keep(fl_iteration_num=9, evaluation=Evaluation("val.json", "images", every=2))
    store.beat("evaluator", "e", {}, seconds=60)
    for n in range(1, 7):
        good_round(served, n)
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [2, 4, 5, 6]
    store.add_evaluation(2, {"AP": 0})
    good_round(served, 7)
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [4, 5, 6, 7]
    store.leave("evaluator", "e")
    good_round(served, 8)
    assert [n for n, _ in list_checkpoints(tmp_path, "job")] == [6, 7, 8]


def metrics(value):
    return {"AP": value / 2, "AP50": value}


def test_the_best_model_outlives_pruning(keep, store, tmp_path):
    served = keep(fl_iteration_num=9, evaluation=Evaluation("val.json", "images"))
    store.beat("evaluator", "e", {}, seconds=60)
    good_round(served, 1)
    store.add_evaluation(1, metrics(0.5))
    for n in range(2, 7):
        good_round(served, n)
        store.add_evaluation(n, metrics(0.4))
    good_round(served, 7)
    assert 1 not in dict(list_checkpoints(tmp_path, "job"))
    best = read_best(tmp_path, "job", "i_test")
    assert (best.round, best.metric, best.value) == (1, "AP50", 0.5)
    assert read_checkpoint(best.checkpoint)[1].round == 1
    assert json.loads(store.job()["best"])["round"] == 1
    store.clear()  # Redis was emptied: it hears of it again
    good_round(served, 8)
    assert json.loads(store.job()["best"])["round"] == 1


STOP = StopCondition(metric="delta_loss", operator="<", threshold=1, patience=1, min_rounds=2)


def test_a_server_without_scheduler_looks_at_the_stop_condition(keep, store):
    served = keep(fl_iteration_num=9, stop_condition=STOP)
    good_round(served, 1)
    assert served.rounds.state == "running"
    good_round(served, 2)
    assert served.rounds.state == "finished"
    served.keeper.step()
    assert store.job()["state"] == "finished"
    stop = json.loads(store.job()["stop"])
    assert stop == {"condition": "delta_loss < 1 for 1 rounds running (0)", "round": 2}
    assert [record["good"] for record in store.rounds()] == [True, True]


def test_a_live_scheduler_is_who_looks_and_asks(keep, store):
    served = keep(fl_iteration_num=9, stop_condition=STOP)
    store.beat("scheduler", "s", {}, seconds=60)
    good_round(served, 1)
    good_round(served, 2)
    good_round(served, 3)
    assert served.rounds.state == "running"
    served.aggregator.control(lambda rounds: rounds.join("silo_0", "", "", 5))
    store.request("finish", {"condition": "of an earlier run", "round": 2, "instance": "i_other"})
    served.keeper.step()
    assert served.rounds.state == "running"
    store.request("finish", {"condition": "c", "round": 2, "instance": "i_test"})
    served.keeper.step()
    served.keeper.step()
    assert (store.job()["state"], store.job()["reason"], store.job()["good_rounds"]) == ("finished", "", "3")
    assert json.loads(store.job()["stop"]) == {"condition": "c", "round": 2}
    assert len(store.rounds()) == 3  # the round that had begun is no failed one


def test_a_bound_in_rounds_is_noted_at_the_end_whoever_is_alive(keep, store):
    served = keep(fl_iteration_num=9, stop_condition=StopCondition(metric="rounds", operator=">=", threshold=2))
    store.beat("scheduler", "s", {}, seconds=60)
    good_round(served, 1)
    good_round(served, 2)
    assert served.rounds.state == "finished"
    assert json.loads(store.job()["stop"]) == {"condition": "rounds >= 2 (2)", "round": 2}
