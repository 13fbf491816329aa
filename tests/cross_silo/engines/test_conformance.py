"""One protocol, two engines: what a worker, or the engine's own client, is answered by each.

Where they differ on purpose the test says so by :func:`differs`.
"""

import numpy as np
import pytest

from cross_silo.checkpoint import read_checkpoint
from tests.support.engine_under_test import (
    SAMPLES,
    SIZES,
    EngineUnderTest,
    Wire,
    assert_mean,
    free_ports,
    join_all,
    make_round,
    random_weights,
    tensors_of,
)
from tests.support.federation import ROOT

NATIVE, WHEEL = "native", "mindspore_federated"
HAS_WHEEL = (ROOT / ".venv-engine" / ".set-up").exists()
NEEDS_WHEEL = pytest.mark.skipif(not HAS_WHEEL, reason="no .venv-engine: bash scripts/setup_engine.sh")
ENGINES = [NATIVE, pytest.param(WHEEL, marks=NEEDS_WHEEL)]


def differs(engine, native, wheel, why):
    """What is expected of ``engine``, where the two differ on purpose; ``why`` is for the reader."""
    assert why
    return {NATIVE: native, WHEEL: wheel}[engine.engine]


@pytest.fixture(scope="module")
def made(tmp_path_factory, redis_address):
    """Engines by name, started once; each test makes whole rounds, so that the next one finds it idle."""
    engines = {}

    def make(name):
        if name not in engines:
            engines[name] = EngineUnderTest(name, tmp_path_factory.mktemp(name), redis_address, free_ports())
        return engines[name]

    yield make
    for engine in engines.values():
        engine.close()


@pytest.fixture(params=ENGINES)
def engine(request, made):
    return made(request.param)


@pytest.fixture
def wire(engine):
    return Wire(engine.wire)


ROUNDS = 5


@pytest.fixture(scope="module", params=ENGINES)
def job(request, tmp_path_factory, redis_address):
    """An engine for workers' clients; its tests make rounds, the last of them the rest."""
    directory = tmp_path_factory.mktemp(f"job_{request.param}")
    engine = EngineUnderTest(request.param, directory, redis_address, free_ports(), rounds=ROUNDS)
    yield engine
    engine.close()


@pytest.fixture
def clients(job):
    """Both silos' clients."""
    found = [job.client(0), job.client(1)]
    yield found
    for client in found:
        client.release()


def join_both(wire):
    """Both silos join; the iteration."""
    answers = [wire.join(silo, samples) for silo, samples in zip("ab", SAMPLES)]
    assert [answer["retcode"] for answer in answers] == [200, 200], answers
    assert answers[0]["iteration"] == answers[1]["iteration"]
    return answers[0]["iteration"]


def push_both(wire, iteration, pushed):
    """Both silos push; the model that comes of it."""
    for silo, samples, weights in zip("ab", SAMPLES, pushed):
        answer = wire.push(silo, iteration, weights, samples)
        assert answer["retcode"] == 200, answer
    return wire.await_model(iteration)


# The engine's own messages


def test_a_round(wire):
    """Join, push in any order of names, poll: 201 until the weighted mean is there."""
    pushed = [random_weights(1), random_weights(2)]
    iteration = join_both(wire)
    pending = wire.model(iteration)
    assert pending["retcode"] == 201 and not pending["feature_map"]
    assert wire.push("a", iteration, pushed[0], 10, names=sorted(SIZES, reverse=True))["retcode"] == 200
    assert wire.model(iteration)["retcode"] == 201
    assert wire.push("b", iteration, pushed[1], 30, upload_loss=0.5)["retcode"] == 200
    model = wire.await_model(iteration)
    assert_mean(model, pushed)
    for newest in (wire.model(), wire.model(iteration)):
        assert newest["iteration"] == iteration + 1
        assert all(np.array_equal(values, model[name]) for name, values in tensors_of(newest).items())


def test_what_joining_tells(wire):
    answer = wire.join("a", 10)
    assert answer["is_selected"] and answer["reason"] == "success"
    assert answer["upload_compress_type"] == 0 and not answer["feature_map"]
    assert answer["fl_plan_config"]["server_mode"] == "CLOUD_TRAINING"
    assert wire.join("b", 30)["retcode"] == 200
    push_both(wire, answer["iteration"], [random_weights(1), random_weights(2)])


def test_joining_again_and_one_too_many(wire):
    """A repeated join is told apart by its text; the first data_size stays."""
    answer = wire.join("a", 10)
    again = wire.join("a", 1000)
    assert (again["retcode"], again["iteration"]) == (300, answer["iteration"])
    assert again["reason"].startswith("Updating device metadata failed for fl id a")
    assert wire.join("b", 30)["retcode"] == 200
    late = wire.join("c", 5)
    assert late["retcode"] == 300
    assert late["reason"].startswith("Current amount for startFLJob has reached the threshold")
    pushed = [random_weights(3), random_weights(4)]
    assert_mean(push_both(wire, answer["iteration"], pushed), pushed)


def test_a_data_size_that_is_none(wire):
    for samples in (0, -1):
        assert wire.join("a", samples)["retcode"] in (300, 400)
    pushed = [random_weights(5), random_weights(6)]
    assert_mean(push_both(wire, join_both(wire), pushed), pushed)


def test_the_largest_data_size(engine, wire):
    answer = wire.join("a", 65536)
    expected = differs(engine, 200, 300, "the wheel refuses what our sums have room for")
    assert answer["retcode"] == expected
    if expected != 200:
        answer = wire.join("a", 65535)
    assert wire.join("b", 30)["retcode"] == 200
    for silo, samples in (("a", 65536 if expected == 200 else 65535), ("b", 30)):
        assert wire.push(silo, answer["iteration"], random_weights(1), samples)["retcode"] == 200
    wire.await_model(answer["iteration"])


def test_an_update_without_a_join_of_another_round_or_twice(wire):
    weights = random_weights(7)
    iteration = join_both(wire)
    stranger = wire.push("c", iteration, weights, 10)
    assert (stranger["retcode"], "devices_meta" in stranger["reason"]) == (300, True)
    for wrong in (iteration + 1, iteration - 1):
        answer = wire.push("a", wrong, weights, 10)
        assert answer["retcode"] == 300
        assert answer["reason"].startswith(f"UpdateModel iteration number is invalid:{wrong}, current iteration")
    assert wire.push("a", iteration, weights, 10)["retcode"] == 200
    again = wire.push("a", iteration, random_weights(8), 10)
    assert again["retcode"] == 300
    assert again["reason"].startswith("Updating metadata of UpdateModelClientList failed for fl id a")
    assert wire.push("b", iteration, weights, 30)["retcode"] == 200
    assert_mean(wire.await_model(iteration), [weights, weights])
    late = wire.push("a", iteration, weights, 10)
    assert late["retcode"] == 300


SPOILT = {
    "unknown name": lambda weights: {**weights, "unknown": np.zeros(3, np.float32)},
    "wrong size": lambda weights: {**weights, "head.bias": np.zeros(7, np.float32)},
    "nan": lambda weights: {**weights, "head.bias": np.float32([1, np.nan, 1, 1])},
    "infinite": lambda weights: {**weights, "head.bias": np.float32([1, np.inf, 1, 1])},
    "empty": lambda weights: {},
}


def test_an_update_that_is_none_is_refused_and_may_be_mended(wire):
    pushed = [random_weights(9), random_weights(10)]
    iteration = join_both(wire)
    for what, spoil in SPOILT.items():
        assert wire.push("a", iteration, spoil(pushed[0]), 10)["retcode"] == 400, what
    assert_mean(push_both(wire, iteration, pushed), pushed)


def test_an_update_that_lacks_a_tensor(engine, wire):
    pushed = [random_weights(11), random_weights(12)]
    iteration = join_both(wire)
    answer = wire.push("a", iteration, pushed[0], 10, names=["head.weight", "norm.moving_mean"])
    expected = differs(engine, 400, 200, "the wheel averages a tensor over those who sent it: silently another mean")
    assert answer["retcode"] == expected
    if expected == 400:
        assert "head.bias" in answer["reason"]
        assert wire.push("a", iteration, pushed[0], 10)["retcode"] == 200
    assert wire.push("b", iteration, pushed[1], 30)["retcode"] == 200
    model = wire.await_model(iteration)
    if expected == 200:
        np.testing.assert_allclose(model.pop("head.bias"), pushed[1]["head.bias"], rtol=1e-5)
        model["head.bias"] = np.average([w["head.bias"] for w in pushed], axis=0, weights=SAMPLES)
    assert_mean(model, pushed)


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("/startFLJob", "RequestFLJob"),
        ("/updateModel", "RequestUpdateModel"),
    ],
)
def test_messages_without_required_fields(wire, path, table):
    found = wire.ask(path, table, {"fl_id": "a"})
    reason = found if isinstance(found, str) else found["reason"]
    assert reason == f"Verify flatbuffers schema failed for {table}."


@pytest.mark.parametrize("table", ["FLJob", "UpdateModel", "GetModel"])
def test_bytes_that_are_no_message(wire, table):
    path = {"FLJob": "/startFLJob", "UpdateModel": "/updateModel", "GetModel": "/getModel"}[table]
    answer = wire.send(path, b"\xff" * 64, f"Response{table}")
    assert answer["retcode"] == 400
    assert answer["reason"].startswith(f"The schema of Request{table} is invalid.")


# A worker's client: verdicts, restart and end, in one job


def good_round(clients, seed):
    """One good round; its number."""
    return make_round(clients, [random_weights(seed), random_weights(seed + 1)]).iteration


def newest(client):
    """Round and weights of the newest model."""
    reply = client.get_model(None)
    return reply.round, {name: values.copy() for name, values in reply.weights.items()}


def assert_same(model, expected):
    assert model[0] == expected[0]
    assert all(np.array_equal(model[1][name], values) for name, values in expected[1].items())


def test_verdicts_good_and_failed(job, clients):
    """A silo that leaves fails the round for the other one, under the same number; its base model stays."""
    number = good_round(clients, 1)
    before = newest(clients[0])
    assert before[0] == number
    tickets = join_all(clients)
    assert (tickets[0].iteration, tickets[0].attempt) == (number + 1, 1)
    pushed = [random_weights(3), random_weights(4)]
    assert clients[0].push(tickets[0], pushed[0], 10, 0.5, {}).accepted
    assert clients[0].get_model(number + 1).verdict == "pending"
    clients[1].release()
    reply = clients[0].get_model(number + 1, wait=30)
    assert (reply.verdict, reply.weights) == ("failed", None)
    assert "silo_1" in reply.reason and "left" in reply.reason
    assert_same(newest(clients[0]), before)
    clients[1] = job.client(1)
    assert make_round(clients, pushed).iteration == number + 1
    job.wait(lambda: job.good_rounds == number + 1, "the checkpoint")


def test_a_restart(job, clients):
    """A killed server goes on from the newest checkpoint; the round in progress is lost, its number is not."""
    number = good_round(clients, 1)
    before = newest(clients[0])
    tickets = join_all(clients)
    pushed = [random_weights(3), random_weights(4)]
    assert clients[0].push(tickets[0], pushed[0], 10, 0.5, {}).accepted
    job.kill("server_0")
    job.start_role("server_0")
    assert_same(newest(clients[0]), before)
    assert make_round(clients, pushed).iteration == number + 1


def test_the_end_of_a_job(job, clients):
    """After the last round nobody joins, the last model is there for all, and the processes end by themselves."""
    while good_round(clients, 1) < ROUNDS:
        pass
    for client in clients:
        ticket = client.start_round(10)
        assert (ticket.joined, ticket.state) == (False, "finished")
        assert client.get_model(None).state == "finished"
    last = newest(clients[0])
    assert last[0] == ROUNDS
    for client in clients:
        client.release()
    for process in job.running.values():
        assert job.status(process) == 0
    tensors, info = read_checkpoint(job.newest())
    assert info.round == ROUNDS
    assert_same((job.good_rounds, {name: values.reshape(-1) for name, values in tensors.items()}), last)
