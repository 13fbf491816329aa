"""Updates and models over several servers, inside the test's process: who sends what where, and what is refused."""

import http.client
import json
import time

import numpy as np
import pytest

from cross_silo.aggregation.rounds import Rounds
from cross_silo.config.aggregation import Aggregation
from cross_silo.config.auth import Auth
from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.access import credentials
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.connection import exchange
from cross_silo.protocol.http_service import HttpService, json_response
from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.tasks import at_once
from tests.support.auth_files import SILOS, make_auth
from tests.support.served_rounds import SAMPLES, make_round, start, updates, weighted_mean


@pytest.fixture
def served(serve):
    return serve(servers=3)


def assert_model(reply, expected):
    assert set(reply.weights) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(reply.weights[name], values.reshape(-1), rtol=1e-6, atol=1e-6)


def test_rounds_equal_numpys_weighted_mean_and_every_server_sends_its_part(served):
    clients = [served.client(0), served.client(1)]
    for n in (1, 2, 3):
        pushed, replies = make_round(clients, seed=n)
        for reply in replies:
            assert (reply.verdict, reply.round) == ("good", n)
            assert_model(reply, weighted_mean(pushed))
        assert [sorted(other.shard.models.tensors) for other in served.others] == [["bn.moving_mean"], ["scale"]]
        for other in served.others:
            for name, values in other.shard.models.tensors.items():
                np.testing.assert_array_equal(values, served.models.tensors[name])


def engine_call(address, path, table, values, **told):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", path, encode(table, values), told)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 200, body
    return decode(body, table.replace("Request", "Response"))


def test_the_engines_own_client_pushes_and_pulls_whole_models(served):
    now = {"timestamp": "1"}
    pushed = updates({name: values.copy() for name, values in served.models.tensors.items()}, 5)
    for i, samples in enumerate(SAMPLES):
        values = {"fl_name": "any", "fl_id": f"site {i}", "data_size": samples, **now}
        assert engine_call(served.address, "/startFLJob", "RequestFLJob", values)["retcode"] == 200
    for i, samples in enumerate(SAMPLES):
        features = [{"weight_fullname": name, "data": v * np.float32(samples)} for name, v in pushed[i].items()]
        values = {"fl_id": f"site {i}", "iteration": 1, "feature_map": features, **now}
        assert engine_call(served.address, "/updateModel", "RequestUpdateModel", values)["retcode"] == 200
    model = engine_call(served.address, "/getModel", "RequestGetModel", {"iteration": 1}, **{headers.WAIT: "10"})
    found = {feature["weight_fullname"]: feature["data"] for feature in model["feature_map"]}
    for name, values in weighted_mean(pushed).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-6)


def test_old_and_new_clients_in_one_round(served):
    clients = [served.client(0), served.client(1)]
    clients[1]._shards.learn = lambda told: None
    pushed, replies = make_round(clients, seed=4)
    for reply in replies:
        assert_model(reply, weighted_mean(pushed))


def test_a_worker_that_cannot_reach_a_server_sends_and_gets_all_by_way_of_the_first(served, caplog):
    clients = [served.client(0), served.client(1)]
    served.ports[2] = 1  # where nobody listens, as behind a firewall
    told = clients[1]._shards.learn

    def learn(headers_told):
        told({**dict(headers_told), headers.PORTS: ",".join(map(str, served.ports))})

    clients[1]._shards.learn = learn
    pushed, replies = make_round(clients, seed=4)
    for reply in replies:
        assert_model(reply, weighted_mean(pushed))
    assert "server_2 (port 1) is not reached" in caplog.text
    assert served.rounds.good_rounds == 1


def test_what_is_no_server_of_the_job_at_anothers_port_is_passed_by_at_once(served, caplog):
    clients = [served.client(0), served.client(1)]
    strange = HttpService("127.0.0.1:0", "address", {("POST", "/any"): lambda request: json_response({})})
    strange.start()
    served.ports[2] = int(strange.address.rpartition(":")[2])
    told = clients[1]._shards.learn
    clients[1]._shards.learn = lambda of: told({**dict(of), headers.PORTS: ",".join(map(str, served.ports))})
    began = time.monotonic()
    pushed, replies = make_round(clients, seed=4)
    assert time.monotonic() - began < 50  # the first server would wait 60 s for the shard
    strange.stop()
    for reply in replies:
        assert_model(reply, weighted_mean(pushed))
    assert f"server_2 (port {served.ports[2]}) answers with HTTP 404: the whole update goes" in caplog.text


@pytest.mark.parametrize("tensor", ["conv.weight", "bn.moving_mean", "scale"])
def test_a_shard_that_is_no_part_of_this_model_is_named_wherever_it_lies(served, tensor):
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    weights = {name: values.copy() for name, values in served.models.tensors.items()}
    with pytest.raises(UserError, match=f"tensor '{tensor}' has 1 non-finite values"):
        wrong = weights[tensor].copy()
        wrong[0] = np.nan
        clients[0].push(tickets[0], {**weights, tensor: wrong}, 10, 0.0, {})
    assert served.aggregator.refusals.counts() == {"silo_0": {"non-finite": 1}}
    for client, ticket, samples in zip(clients, tickets, SAMPLES):
        assert client.push(ticket, weights, samples, 0.0, {}).accepted
    assert_model(clients[0].get_model(1, wait=10), weights)


def test_a_double_push_is_counted_once(served):
    clients = [served.client(0), served.client(1)]
    pushed = updates(served.models.tensors, 3)
    tickets = start(clients)
    for _ in range(3):
        assert clients[0].push(tickets[0], pushed[0], 10, 0.0, {}).accepted
    assert clients[1].push(tickets[1], pushed[1], 30, 0.0, {}).accepted
    assert_model(clients[0].get_model(1, wait=10), weighted_mean(pushed))


@pytest.mark.parametrize("tensor", ["conv.weight", "scale"])
def test_the_norm_is_that_of_the_whole_update(serve, tensor):
    served = serve(servers=3, round={"min_clients": 1}, aggregation=Aggregation(max_update_norm=5.0))
    clients = [served.client(0), served.client(1)]
    base = {name: values.copy() for name, values in served.models.tensors.items()}
    tickets = start(clients)
    far = {**base, tensor: base[tensor] + np.float32(6)}
    reply = clients[1].push(tickets[1], far, 30, 0.0, {})
    assert not reply.accepted
    assert "(aggregation.max_update_norm)" in reply.reason
    near = {name: values + np.float32(0.1) for name, values in base.items()}
    assert clients[0].push(tickets[0], near, 10, 0.0, {}).accepted
    assert_model(clients[0].get_model(1, wait=10), near)
    (record,) = served.aggregator.take_records()
    trainable = sum(values.size for name, values in base.items() if name != "bn.moving_mean")
    assert record["participants"][0]["update_norm"] == pytest.approx(
        0.1 * np.sqrt(served_norm_values(served)), rel=1e-3
    )
    assert trainable <= served_norm_values(served)


def served_norm_values(served):
    """Values that are part of a norm."""
    return sum(served.job.sizes[name] for name, kind in served.job.info.kinds.items() if kind == "trainable")


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "median"},
        {"rule": "trimmed_mean", "trim_share": 0.3},
        {"rule": "clipped_mean", "clip_norm": 1.5},
        {},
    ],
    ids=lambda settings: settings.get("rule", "mean"),
)
def test_every_rule_makes_of_several_servers_what_it_makes_of_one(serve, settings):
    models = []
    for servers in (1, 3):
        served = serve(
            servers=servers, round={"start_fl_job_threshold": 3}, aggregation=Aggregation(**settings), silos=3
        )
        clients = [served.client(i) for i in range(3)]
        random = np.random.default_rng(7)
        base = {name: served.models.tensors[name].copy() for name in sorted(served.job.sizes)}
        tickets = [client.start_round(10 * (i + 1)) for i, client in enumerate(clients)]
        for i, (client, ticket) in enumerate(zip(clients, tickets)):
            update = {n: v + random.standard_normal(v.shape).astype(np.float32) for n, v in base.items()}
            assert client.push(ticket, update, 10 * (i + 1), 0.0, {}).accepted
        reply = clients[0].get_model(1, wait=10)
        models.append({name: values.copy() for name, values in reply.weights.items()})
        served.store.clear()
        for i in range(3):
            clients[i].release()
    assert set(models[0]) == set(models[1])
    for name, values in models[0].items():
        np.testing.assert_allclose(models[1][name], values, rtol=1e-6, atol=1e-6)


def test_places_are_kept_for_whole_updates_not_for_shards(serve):
    """One buffer a server and four silos: nobody waits for another one's shards for ever."""
    served = serve(servers=3, round={"start_fl_job_threshold": 4, "max_uploads": 1}, silos=4)
    clients = [served.client(i) for i in range(4)]
    weights = {name: values.copy() for name, values in served.models.tensors.items()}
    tickets = [client.start_round(10) for client in clients]
    replies = at_once([lambda c=c, t=t: c.push(t, weights, 10, 0.0, {}) for c, t in zip(clients, tickets)])
    assert all(reply.accepted for reply in replies)
    assert_model(clients[0].get_model(1, wait=10), weights)


def test_a_permit_that_is_not_used_lapses_with_its_round(serve):
    served = serve(servers=2, round={"max_uploads": 1})
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    assert clients[0]._ask_permit(tickets[0]) is None
    clients[0].report(1, "gave up", "")
    served.permit_routes.lapse()
    refused = clients[1]._ask_permit(tickets[1])
    assert "attempt 1" in refused.reason
    tickets = start(clients)
    weights = {name: values.copy() for name, values in served.models.tensors.items()}
    for client, ticket, samples in zip(clients, tickets, SAMPLES):
        assert client.push(ticket, weights, samples, 0.0, {}).accepted


def test_a_model_is_never_of_two_rounds(served):
    clients = [served.client(0), served.client(1)]
    make_round(clients, seed=1)
    host, _, port = served.others[0].service.address.rpartition(":")
    body = encode("RequestGetModel", {"iteration": 1, "timestamp": "1"})
    for tag, code in (("", 201), ("another", 201), (served.models.message.tag, 200)):
        told = {headers.SHARD: "1", headers.TAG: tag}
        reply = exchange(host, int(port), "/getModel", body, told, 10)
        assert decode(reply.body, "ResponseGetModel")["retcode"] == code


def test_who_asks_another_server_for_what_it_does_not_do_is_sent_to_the_first(served):
    host, _, port = served.others[0].service.address.rpartition(":")
    for path, body in (("/job", None), ("/startFLJob", b"x"), ("/getModel", b"x"), ("/updateModel", b"x")):
        reply = exchange(host, int(port), path, body, {}, 10)
        assert reply.status == 421
        assert "expected the first one, at the.first:1" in json.loads(reply.body)["error"]


@pytest.mark.parametrize("mode", ["mtls", "token"])
def test_only_servers_take_a_servers_steps(serve, tmp_path, mode):
    directory = make_auth(tmp_path / "auth")
    served = serve(servers=2, silos=SILOS, auth=Auth(mode, str(directory)))
    config = served.job.config
    host, _, port = served.others[0].service.address.rpartition(":")
    silo = credentials(config, "silo_0")
    for step in ("ping", "begin", "expect", "add", "prepare", "commit", "end", "serve", "model"):
        reply = exchange(host, int(port), f"/shard/{step}", b"{}", silo.headers(), 10, None, silo.context)
        assert reply.status == 403
    assert not served.others[0].over.is_set()
    pushed, replies = make_round(enrolled_clients(served), seed=2)
    assert_model(replies[0], weighted_mean(pushed))


def enrolled_clients(served):
    clients = []
    for name, samples in zip(SILOS, SAMPLES):
        policy, shown = RetryPolicy(first=0.01, deadline=5), credentials(served.job.config, name)
        clients.append(AggregationClient(served.address, name, f"w_{name}", "host:1", policy, 5.0, shown))
        clients[-1].acquire_lease(samples, served.job.info.fingerprint)
    return clients


def test_another_silos_permit_cannot_be_used_up(serve, tmp_path):
    directory = make_auth(tmp_path / "auth")
    served = serve(servers=2, silos=SILOS, auth=Auth("token", str(directory)))
    clients = enrolled_clients(served)
    tickets = start(clients)
    assert clients[0]._ask_permit(tickets[0]) is None
    told = {headers.SHARD: "1", headers.WORKER: f"w_{SILOS[0]}", **clients[1]._shown.headers()}
    host, _, port = served.address.rpartition(":")
    reply = exchange(host, int(port), "/updateModel", b"any", told, 10)
    assert decode(reply.body, "ResponseUpdateModel")["reason"].startswith("this worker has no permit")
    assert served.permit_routes._permits.take(f"w_{SILOS[0]}", SILOS[0]) is not None


def test_another_instance_of_the_job_begins_from_the_present_model(served):
    clients = [served.client(0), served.client(1)]
    make_round(clients, seed=1)
    config = served.job.config
    served.aggregator.begin_anew(Rounds(config.round, 3, served.aggregator._clock, known=served.leases.expected))
    assert clients[0].start_round(10).reason.startswith("a round needs every server")
    served.await_servers()
    pushed, replies = make_round(clients, seed=2)
    assert replies[0].round == 1
    assert_model(replies[0], weighted_mean(pushed))
