"""The client against scripted servers: late, busy, between rounds, without our headers, or none at all."""

import threading
import time

import numpy as np
import pytest

from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.client import AggregationClient, LeaseLost, ServerUnreachable, SiloTaken
from cross_silo.protocol.http_service import HttpService, Response, json_response, text_response
from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.schema import DISABLED, NEWEST, SAFEMODE

LARGE = 50_000
"""Values of a model whose reply goes to the receive buffer."""


class Scripted:
    """A server that gives its answers in turn and keeps what it was asked."""

    def __init__(self):
        self.answers = []
        self.asked = []
        paths = ("/startFLJob", "/updateModel", "/getModel", "/lease", "/heartbeat", "/report", "/release")
        routes = {("POST", path): self.answer for path in paths}
        self.service = HttpService("127.0.0.1:0", "--address", {**routes, ("GET", "/job"): self.answer})
        self.service.start()

    def answer(self, request):
        names = (headers.WORKER, headers.ATTEMPT, headers.WAIT)
        told = {name: request.header(name) for name in names if request.header(name)}
        self.asked.append((request.path, request.body(1 << 30), told))
        return self.answers.pop(0)


@pytest.fixture
def scripted():
    server = Scripted()
    yield server
    server.service.stop(grace=0)


@pytest.fixture
def client(scripted):
    return make(scripted.service.address)


def make(address, **settings):
    policy = RetryPolicy(first=0.01, longest=0.05, deadline=2)
    return AggregationClient(address, "silo_0", "w0", "host:1", policy, **settings)


def message(table, told=None, **values):
    return Response(200, encode(table, values), headers=told or {})


def model(value, iteration, told=None):
    features = [{"weight_fullname": "w", "data": np.full(LARGE, value, np.float32)}]
    return message("ResponseGetModel", told, retcode=200, iteration=iteration, feature_map=features)


def test_no_server_is_one_clear_line(free_port):
    began = time.monotonic()
    with pytest.raises(
        ServerUnreachable, match=rf"no server answers at 127.0.0.1:{free_port} for 0 s: Connection refused"
    ):
        make(f"127.0.0.1:{free_port}", wait_for_server=0.3).job()
    assert 0.3 <= time.monotonic() - began < 2


def test_a_server_that_starts_late(free_port):
    started = []

    def start():
        routes = {("GET", "/job"): lambda request: json_response({"fl_name": "job", "later": "field"})}
        started.append(HttpService(f"127.0.0.1:{free_port}", "--address", routes))
        started[0].start()

    timer = threading.Timer(0.3, start)
    timer.start()
    assert make(f"127.0.0.1:{free_port}", wait_for_server=10).job().fl_name == "job"
    timer.join()
    started[0].stop(grace=0)


def test_heartbeats_and_releases_do_not_wait_for_a_dead_server(free_port):
    client = make(f"127.0.0.1:{free_port}")
    began = time.monotonic()
    with pytest.raises(ServerUnreachable):
        client.heartbeat()
    client.release()
    assert time.monotonic() - began < 1


def test_a_busy_server_is_asked_again(scripted, client):
    scripted.answers = [json_response({"error": "full"}, 503)] * 3 + [json_response({"fl_name": "job"})]
    assert client.job().fl_name == "job"
    assert len(scripted.asked) == 4


def test_between_rounds_joining_is_tried_again(scripted, client):
    told = {headers.STATE: "running", headers.ATTEMPT: "3", headers.INSTANCE: "i"}
    joined = message("ResponseFLJob", told, retcode=200, reason="", iteration=7)
    scripted.answers = [text_response(SAFEMODE)] * 2 + [joined]
    ticket = client.start_round(12)
    assert (ticket.joined, ticket.iteration, ticket.attempt, ticket.state, ticket.instance) == (
        True,
        7,
        3,
        "running",
        "i",
    )
    request = decode(scripted.asked[-1][1], "RequestFLJob")
    assert (request["fl_id"], request["data_size"]) == ("silo_0", 12)
    assert len(request["timestamp"]) == 13
    assert scripted.asked[-1][2] == {headers.WORKER: "w0"}


@pytest.mark.parametrize(
    ("code", "reason", "joined"),
    [
        (200, "success", True),
        (300, "Updating device metadata failed for fl id silo_0", True),
        (300, "Current amount for startFLJob has reached the threshold. Please startFLJob later.", False),
        (400, "no", False),
    ],
)
def test_an_engine_without_our_headers_lets_us_join(scripted, client, code, reason, joined):
    scripted.answers = [message("ResponseFLJob", retcode=code, reason=reason, iteration=2)]
    ticket = client.start_round(12)
    assert (ticket.joined, ticket.iteration, ticket.attempt, ticket.state) == (joined, 2, 1, "running")


def test_the_engines_end(scripted, client):
    scripted.answers = [text_response(DISABLED)]
    ticket = client.start_round(12)
    assert (ticket.joined, ticket.state, ticket.reason) == (False, "finished", DISABLED)


def join(scripted, client, iteration=5, attempt="2"):
    told = {headers.ATTEMPT: attempt}
    scripted.answers.append(message("ResponseFLJob", told, retcode=200, iteration=iteration))
    return client.start_round(12)


def test_a_push_carries_weights_times_samples(scripted, client):
    ticket = join(scripted, client)
    weights = {"a": np.float64([[1, 2], [3, 4]]).T, "b": np.float32(0.5).reshape(())}
    for loss in (0.25, 0.75):
        scripted.answers = [message("ResponseUpdateModel", retcode=200, reason="success not ready")]
        assert client.push(ticket, weights, 3, loss, {"steps": 2}).accepted
        path, body, told = scripted.asked[-1]
        request = decode(body, "RequestUpdateModel")
        assert (path, told[headers.ATTEMPT]) == ("/updateModel", "2")
        assert (request["fl_id"], request["iteration"], request["upload_loss"]) == ("silo_0", 5, loss)
        features = {feature["weight_fullname"]: feature["data"].tolist() for feature in request["feature_map"]}
        assert features == {"a": [3, 9, 6, 12], "b": [1.5]}
    assert client.bytes_up == sum(len(body) for _, body, _ in scripted.asked)


@pytest.mark.parametrize(
    ("reason", "accepted"),
    [
        ("Updating metadata of UpdateModelClientList failed for fl id silo_0", True),
        ("devices_meta for silo_0 is not set. Please retry later.", False),
        ("Current amount for updateModel is enough. Please retry later.", False),
    ],
)
def test_a_repeated_push_counts_as_accepted(scripted, client, reason, accepted):
    ticket = join(scripted, client)
    scripted.answers = [message("ResponseUpdateModel", retcode=300, reason=reason)]
    reply = client.push(ticket, {"w": np.ones(3)}, 3, 0.0, {})
    assert (reply.accepted, reply.reason) == (accepted, reason)


def test_a_refused_push_names_the_silo(scripted, client):
    ticket = join(scripted, client)
    scripted.answers = [message("ResponseUpdateModel", retcode=400, reason="tensor 'w' is missing")]
    with pytest.raises(UserError, match="refuses the update of silo silo_0: tensor 'w' is missing"):
        client.push(ticket, {"v": np.ones(3)}, 3, 0.0, {})


def test_models_share_one_receive_buffer(scripted, client):
    scripted.answers = [model(1, 4), model(2, 5)]
    first = client.get_model(None)
    np.testing.assert_array_equal(first.weights["w"], np.ones(LARGE))
    second = client.get_model(None)
    assert second.weights["w"].ctypes.data == first.weights["w"].ctypes.data
    np.testing.assert_array_equal(first.weights["w"], np.full(LARGE, 2))


def test_a_reply_without_a_model_leaves_the_last_one(scripted, client):
    scripted.answers = [model(1, 4), message("ResponseGetModel", retcode=201, reason="not ready", iteration=4)]
    first = client.get_model(None)
    pending = client.get_model(4)
    assert (pending.verdict, pending.reason, pending.weights, pending.round) == ("pending", "not ready", None, -1)
    np.testing.assert_array_equal(first.weights["w"], np.ones(LARGE))


def test_what_is_asked_of_getmodel(scripted, client):
    told = {headers.MODEL_ROUND: "9", headers.VERDICT: "good", headers.STATE: "finished"}
    scripted.answers = [model(1, 10, told)]
    reply = client.get_model(None)
    assert (reply.verdict, reply.round, reply.state) == ("good", 9, "finished")
    assert decode(scripted.asked[-1][1], "RequestGetModel")["iteration"] == NEWEST
    join(scripted, client, iteration=5, attempt="2")
    scripted.answers = [model(1, 10), model(1, 10)]
    assert client.get_model(5, wait=1000).round == 9
    assert decode(scripted.asked[-1][1], "RequestGetModel")["iteration"] == 5
    assert scripted.asked[-1][2] == {headers.WORKER: "w0", headers.ATTEMPT: "2", headers.WAIT: "60"}
    client.get_model(4)
    assert headers.ATTEMPT not in scripted.asked[-1][2]


def test_a_failed_round_says_why(scripted, client):
    told = {headers.VERDICT: "failed", headers.REASON: headers.quote("silo_1 (host): verloren – weg")}
    scripted.answers = [message("ResponseGetModel", told, retcode=201, reason="", iteration=4)]
    reply = client.get_model(4)
    assert (reply.verdict, reply.reason) == ("failed", "silo_1 (host): verloren – weg")


def test_leases(scripted, client):
    scripted.answers = [
        json_response({"seconds": 15}),
        json_response({"error": "silo 'silo_0' is taken by h:2 for 3 s more", "holder": {}}, 409),
        json_response({"error": "wrong model"}, 412),
        json_response({"state": "running", "iteration": 3, "attempt": 1, "seconds": 15}),
        json_response({"error": "silo 'silo_0' is taken by h:2"}, 410),
    ]
    assert client.acquire_lease(10, "f") == 15
    with pytest.raises(SiloTaken, match="taken by h:2 for 3 s more"):
        client.acquire_lease(10, "f")
    with pytest.raises(UserError, match="wrong model"):
        client.acquire_lease(10, "f")
    assert client.heartbeat(phase="training").iteration == 3
    with pytest.raises(LeaseLost, match="taken by h:2"):
        client.heartbeat()


@pytest.mark.parametrize("answer", [Response(200, b"<html>hello</html>"), Response(200, b"")])
def test_another_kind_of_server(scripted, client, answer):
    scripted.answers = [answer, answer]
    with pytest.raises(UserError, match="does not answer as an aggregation server does"):
        client.get_model(None)
    with pytest.raises(UserError, match="is it an aggregation server"):
        client.job()


def test_an_address_without_a_port():
    with pytest.raises(UserError, match="http_server_address is 'localhost', expected host:port"):
        make("localhost")
