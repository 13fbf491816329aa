"""Updates that are refused for what is in them, counted, and what becomes of their silo; robust rules over loopback."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cross_silo.aggregation.gate import Gate
from cross_silo.aggregation.refusals import NON_FINITE, NORM, TENSORS
from cross_silo.aggregation.uploads import InvalidUpdateError
from cross_silo.config.aggregation import Aggregation
from cross_silo.config.federated import FederatedConfig
from cross_silo.errors import UserError

SIZES = {"w": 4, "bn.moving_mean": 2}
KINDS = {"w": "trainable", "bn.moving_mean": "statistic"}
MODEL = {name: np.ones(size, np.float32) for name, size in SIZES.items()}


def gate(**settings):
    job = SimpleNamespace(
        config=FederatedConfig(aggregation=Aggregation(**settings)), sizes=SIZES, info=SimpleNamespace(kinds=KINDS)
    )
    return Gate(job, SimpleNamespace(tensors=MODEL))


def message(samples=1, loss=0.5, **weights):
    features = [
        {"weight_fullname": name, "data": np.float32(values) * np.float32(samples)}
        for name, values in {**MODEL, **{name.replace("_", ".", 1): v for name, v in weights.items()}}.items()
    ]
    return dict.fromkeys(("upload_compress_type", "compress_feature_map", "index_array", "sign")) | {
        "feature_map": features,
        "upload_loss": loss,
    }


def refused(checked, found, samples=1):
    with pytest.raises(InvalidUpdateError) as error:
        checked.check(found, False, samples, {}, 100)
    return error.value


def test_a_sound_update():
    update = gate().check(message(7), False, 7, {"steps": 3}, 100)
    np.testing.assert_array_equal(update.tensors["w"], np.full(4, 7, np.float32))
    assert (update.samples, update.loss, update.stats, update.size) == (7, 0.5, {"steps": 3}, 100)
    assert update.norm is None


def test_the_norm_is_that_of_trainable_tensors_and_stands_in_the_record():
    checked = gate(max_update_norm=1e6)
    update = checked.check(message(7, w=[1, 1, 4, 5], bn_moving_mean=[900, 900]), False, 7, {}, 100)
    assert update.norm == pytest.approx(5)
    assert update.stats["update_norm"] == update.norm


@pytest.mark.parametrize(
    ("content", "reason", "problem"),
    [
        (message(w=[1, 2]), TENSORS, "tensor 'w' has 2 values, expected 4"),
        (message(w=[1, np.nan, 1, 1]), NON_FINITE, "tensor 'w' has 1 non-finite values"),
        (message(loss=np.inf), NON_FINITE, "upload_loss is inf"),
        (message(w=[11, 1, 1, 1]), NORM, "its norm is 10, expected at most 5 (aggregation.max_update_norm)"),
    ],
)
def test_each_reason_is_named(content, reason, problem):
    error = refused(gate(max_update_norm=5.0), content)
    assert error.reason == reason
    assert str(error).startswith(problem)


def test_the_median_of_what_was_taken():
    checked = gate(max_update_norm_factor=2.0)
    for value in (2, 2, 2):
        checked.check(message(w=[value, 1, 1, 1]), False, 1, {}, 100)
    assert "2 times the median 1 of the last ones" in str(refused(checked, message(w=[4, 1, 1, 1])))


# over loopback


def start(clients):
    return [client.start_round(10 * (i + 1)) for i, client in enumerate(clients)]


def moved(served, by):
    return {name: values + np.float32(by) for name, values in served.models.tensors.items()}


def test_a_round_goes_on_without_an_absurd_update(serve):
    served = serve(round={"min_clients": 1}, aggregation=Aggregation(max_update_norm=10.0))
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    absurd = clients[1].push(tickets[1], moved(served, 1e6), 20, 0.5, {})
    assert not absurd.accepted
    assert absurd.reason.startswith(
        "round 1 goes on without silo silo_1: its update was refused: its norm is 3.873e+06"
    )
    again = clients[1].start_round(20)
    assert (again.joined, again.waits) == (False, True)
    assert again.reason == "the update of silo silo_1 was refused in this round"
    sound = moved(served, 1)
    assert clients[0].push(tickets[0], sound, 10, 0.5, {}).accepted
    reply = clients[0].get_model(1, wait=10)
    for name, values in sound.items():
        np.testing.assert_allclose(reply.weights[name], values, rtol=1e-6)
    (record,) = served.aggregator.take_records()
    assert list(record["left_out"]) == ["silo_1"]
    assert record["participants"][0]["update_norm"] == pytest.approx(np.sqrt(15), rel=1e-5)
    assert served.aggregator.refusals.counts() == {"silo_1": {"norm": 1}}
    assert clients[1].start_round(20).joined  # the next round is open to it


def test_a_round_that_needs_every_silo_fails_by_name(serve):
    served = serve(aggregation=Aggregation(max_update_norm=10.0))
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    assert not clients[1].push(tickets[1], moved(served, 100), 20, 0.5, {}).accepted
    failed = clients[0].get_model(1)
    assert failed.verdict == "failed"
    assert "round 1 attempt 1 failed: silo_1 (host:1): its update was refused: its norm is 387.3" in failed.reason
    assert clients[1].start_round(20).attempt == 2


def test_what_is_refused_is_counted_by_silo_and_reason(served):
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    weights = moved(served, 0)
    for wrong in ({"scale": np.zeros(2, np.float32)}, {"scale": np.float32([np.nan])}):
        with pytest.raises(UserError, match="the server refuses the update of silo silo_0"):
            clients[0].push(tickets[0], {**weights, **wrong}, 10, 0.5, {})
    with pytest.raises(UserError, match="is not the job's"):
        clients[1].acquire_lease(20, "abc")
    assert served.aggregator.refusals.counts() == {
        "silo_0": {"tensors": 1, "non-finite": 1},
        "silo_1": {"fingerprint": 1},
    }


def test_a_late_update_is_late_whatever_is_in_it(serve):
    served = serve(aggregation=Aggregation(max_update_norm=1.0))
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    clients[1].report(1, "non-finite loss", "")
    late = clients[0].push(replace(tickets[0], attempt=1), moved(served, 100), 10, 0.5, {})
    assert not late.accepted and "non-finite loss" in late.reason
    assert served.aggregator.refusals.counts() == {}


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({"rule": "mean"}, (1 * 10 + 2 * 20 + 9000 * 30) / 60),
        ({"rule": "median"}, 2),
        ({"rule": "trimmed_mean", "trim_share": 0.3}, 2),
        ({"rule": "clipped_mean", "clip_norm": float(2 * np.sqrt(15))}, (1 * 10 + 2 * 20 + 2 * 30) / 60),
    ],
)
def test_rules(serve, settings, by):
    """Every value is moved by 1, 2 and 9000; for two rounds, so that memory is used again."""
    served = serve(round={"start_fl_job_threshold": 3}, aggregation=Aggregation(**settings))
    clients = [served.client(i) for i in range(3)]
    for n in (1, 2):
        expected = moved(served, by)
        pushed = [moved(served, distance) for distance in (1, 2, 9000)]
        for i, ticket in enumerate(start(clients)):
            assert clients[i].push(ticket, pushed[i], 10 * (i + 1), 0.5, {}).accepted
        reply = clients[0].get_model(n, wait=10)
        assert (reply.verdict, reply.round) == ("good", n)
        for name, values in expected.items():
            np.testing.assert_allclose(reply.weights[name], values, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("error", [TimeoutError("old models have been read for more than 60 s"), MemoryError()])
def test_a_round_for_whose_model_there_is_no_memory_fails_and_the_next_one_is_made(serve, monkeypatch, error):
    served = serve(round={"start_fl_job_threshold": 4, "min_clients": 3}, aggregation=Aggregation(rule="median"))
    clients = [served.client(i) for i in range(4)]

    def draft(seconds):
        raise error

    pushed = [moved(served, distance) for distance in (1, 2, 3)]

    def attempt():
        for i, (client, ticket) in enumerate(zip(clients[:3], start(clients))):
            assert client.push(ticket, pushed[i], 10 * (i + 1), 0.5, {}).accepted
        clients[3].report(1, "gave up", "")  # after the others' updates: the last one was not known as such
        return clients[0].get_model(1, wait=10)

    with monkeypatch.context() as patch:
        patch.setattr(served.models, "draft", draft)
        failed = attempt()
    assert (failed.verdict, failed.reason) == (
        "failed",
        f"round 1 attempt 1 failed: {str(error) or 'MemoryError'}",
    )
    good = attempt()
    assert good.verdict == "good"
    for name, values in pushed[1].items():
        np.testing.assert_allclose(good.weights[name], values, rtol=1e-6)
