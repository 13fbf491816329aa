"""The worker's client against a front and an engine's server that say what the test lists."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cross_silo.aggregation.rounds import FULL
from cross_silo.engines.mindspore_federated import client as wheel
from cross_silo.errors import UserError
from cross_silo.protocol.client import ServerUnreachable
from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.schema import DISABLED, OUT_OF_TIME, REQUEST_ERROR, SAFEMODE, SUCCEED

TABLES = {"/startFLJob": "FLJob", "/updateModel": "UpdateModel", "/getModel": "GetModel"}
WEIGHTS = {"w": np.array([1.0, -2.0], np.float32)}


class Scripted:
    """A service that answers each path with what the test put there, in order, the last one again and again."""

    def __init__(self):
        self.answers, self.asked, self.connections = {}, [], set()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"]))
                scripted.asked.append((self.path, body, dict(self.headers)))
                scripted.connections.add(self.client_address)
                answers = scripted.answers[self.path]
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                content = json.dumps(answer).encode() if isinstance(answer, dict) else answer
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def told(self, path):
        """What was asked at ``path``."""
        bodies = [body for asked, body, _ in self.asked if asked == path]
        return [decode(body, f"Request{TABLES[path]}") if path in TABLES else json.loads(body) for body in bodies]


@pytest.fixture
def engine():
    scripted = Scripted()
    yield scripted
    scripted.server.shutdown()


@pytest.fixture
def front(engine):
    scripted = Scripted()
    standing = {
        "state": "running",
        "instance": "i",
        "good_rounds": 2,
        "iteration": 3,
        "attempt": 2,
        "engine_iteration": 8,
    }
    place = {"joined": True, "waits": False, "reason": "", "size": 7, "server": engine.address}
    scripted.answers = {
        "/begin": [{**standing, **place}],
        "/started": [{**standing, "noted": True, "size": 7}],
        "/pushed": [{**standing, "noted": True}],
        "/verdict": [{**standing, "verdict": "good", "reason": "", "engine_iteration": 9}],
        "/standing": [{**standing, "servers": [engine.address]}],
    }
    yield scripted
    scripted.server.shutdown()


@pytest.fixture
def client(front, monkeypatch):
    monkeypatch.setattr(wheel, "ENGINE_RETRY", RetryPolicy(first=0.01, longest=0.01, deadline=0.2))
    monkeypatch.setattr(wheel, "READY_RETRY", RetryPolicy(first=0.01, longest=0.01, deadline=1.0))
    return wheel.WheelClient(front.address, "silo_0", "w0", "host:1", retry=RetryPolicy(deadline=1.0))


def joined(code=SUCCEED, reason="", iteration=9):
    return encode("ResponseFLJob", {"retcode": code, "reason": reason, "iteration": iteration})


def taken(code=SUCCEED, reason="success not ready"):
    return encode("ResponseUpdateModel", {"retcode": code, "reason": reason})


def model(code=SUCCEED, reason=""):
    features = [{"weight_fullname": "w", "data": WEIGHTS["w"]}] if code == SUCCEED else []
    return encode("ResponseGetModel", {"retcode": code, "reason": reason, "iteration": 10, "feature_map": features})


def push(client, ticket):
    return client.push(ticket, WEIGHTS, 100, 0.5, {"steps": 3})


def test_a_round(client, front, engine):
    engine.answers = {"/startFLJob": [joined()], "/updateModel": [taken()], "/getModel": [model()]}
    ticket = client.start_round(100, wait=1.0)
    assert (ticket.joined, ticket.iteration, ticket.attempt, ticket.instance) == (True, 3, 2, "i")
    assert engine.told("/startFLJob")[0]["data_size"] == 7, "the front says how samples are scaled"
    assert front.told("/started")[0]["engine_iteration"] == 9
    assert push(client, ticket).accepted
    (update,) = engine.told("/updateModel")
    assert update["iteration"] == 9 and list(update["feature_map"][0]["data"]) == [7.0, -14.0]
    (told,) = front.told("/pushed")
    assert (told["iteration"], told["attempt"], told["stats"]["steps"], told["stats"]["loss"]) == (3, 2, 3, 0.5)
    reply = client.get_model(3, wait=1.0)
    assert (reply.verdict, reply.round) == ("good", 3) and list(reply.weights["w"]) == [1.0, -2.0]
    assert engine.told("/getModel")[0]["iteration"] == 9
    assert len(engine.connections) == 3, "a new connection a request"
    assert not any(name.lower().startswith("cross-silo") for _, _, headers in engine.asked for name in headers)


def test_the_engine_is_not_asked_before_the_front_lets_in(client, front, engine):
    front.answers["/begin"][0].update(joined=False, waits=True, reason="1 of 2 silos are there")
    ticket = client.start_round(100)
    assert (ticket.joined, ticket.waits, ticket.reason) == (False, True, "1 of 2 silos are there")
    assert engine.asked == []


def test_texts_of_a_busy_server_are_waited_for(client, engine):
    safemode = SAFEMODE.encode()
    engine.answers = {
        "/startFLJob": [safemode, b"An inner error occurred", joined()],
        "/updateModel": [safemode, taken()],
        "/getModel": [safemode, model(201, "The model is not ready yet for iteration 9"), model()],
    }
    ticket = client.start_round(100)
    assert ticket.joined and push(client, ticket).accepted
    assert client.get_model(3).weights is not None


def test_a_server_that_leaves_refuses(client, engine):
    engine.answers = {"/startFLJob": [joined()], "/updateModel": [DISABLED.encode()], "/getModel": [DISABLED.encode()]}
    ticket = client.start_round(100)
    reply = push(client, ticket)
    assert not reply.accepted and DISABLED in reply.reason and reply.state == "running"
    assert client.get_model(3).verdict == "pending"


def test_who_has_joined_or_pushed_already_goes_on_with_the_size_first_told(client, front, engine):
    front.answers["/started"][0]["size"] = 5
    engine.answers = {
        "/startFLJob": [joined(OUT_OF_TIME, "Updating device metadata failed for fl id silo_0")],
        "/updateModel": [taken(OUT_OF_TIME, "Updating metadata of UpdateModelClientList failed for fl id silo_0")],
    }
    ticket = client.start_round(100)
    assert ticket.joined and push(client, ticket).accepted
    assert list(engine.told("/updateModel")[0]["feature_map"][0]["data"]) == [5.0, -10.0]


def test_a_full_iteration_is_joined_already_unless_it_refuses_the_update(client, front, engine):
    """The engine tells those who are in it that it is full, too: after a restart they go on where they were."""
    unknown = "devices_meta for silo_0 is not set. Please retry later."
    engine.answers = {"/startFLJob": [joined(OUT_OF_TIME, FULL)], "/updateModel": [taken(OUT_OF_TIME, unknown)]}
    ticket = client.start_round(100)
    assert ticket.joined and front.told("/started")[0]["engine_iteration"] == 9
    assert push(client, ticket).reason == unknown
    again = client.start_round(100)
    assert (again.joined, again.waits) == (False, True) and FULL in again.reason
    engine.answers["/startFLJob"] = [joined(OUT_OF_TIME, FULL, iteration=10)]
    assert client.start_round(100).joined


def test_who_joined_for_an_attempt_that_is_over_asks_anew(client, front, engine):
    front.answers["/started"][0]["noted"] = False
    engine.answers = {"/startFLJob": [joined()]}
    ticket = client.start_round(100)
    assert (ticket.joined, ticket.waits) == (False, True)


def test_an_ended_iteration_is_no_error(client, front, engine):
    late = "UpdateModel iteration number is invalid:9, current iteration:10"
    engine.answers = {"/startFLJob": [joined()], "/updateModel": [taken(OUT_OF_TIME, late)]}
    assert push(client, client.start_round(100)).reason == late
    assert front.told("/pushed") == []


def test_an_update_of_another_model_ends_the_worker(client, engine):
    refused = taken(REQUEST_ERROR, "Verify model feature map failed, retry later at time: 1")
    engine.answers = {"/startFLJob": [joined()], "/updateModel": [refused]}
    ticket = client.start_round(100)
    with pytest.raises(UserError, match="Verify model feature map failed"):
        push(client, ticket)


def test_a_failed_round_brings_no_model(client, front, engine):
    """The engine answers with the model before; only the front knows that the iteration failed."""
    engine.answers = {"/startFLJob": [joined()], "/getModel": [model()]}
    front.answers["/verdict"][0].update(verdict="failed", reason="Round updateModel timeout!")
    client.start_round(100)
    reply = client.get_model(3)
    assert (reply.verdict, reply.weights, reply.reason) == ("failed", None, "Round updateModel timeout!")
    assert engine.told("/getModel") == []


def test_the_newest_model_is_asked_for_again_where_a_round_ended_meanwhile(client, front, engine):
    before, after = dict(front.answers["/standing"][0]), {**front.answers["/standing"][0], "good_rounds": 3}
    front.answers["/standing"] = [before, after]
    engine.answers = {"/getModel": [model()]}
    assert client.get_model(None).round == 3
    assert [told["iteration"] for told in engine.told("/getModel")] == [8, 8], "as the front says the engine counts"


def test_a_worker_waits_for_the_newest_model_until_a_server_is_back(client, front, engine):
    there = front.answers["/standing"][0]
    front.answers["/standing"] = [{**there, "servers": []}, there]
    engine.answers = {"/getModel": [DISABLED.encode(), model()]}
    assert client.get_model(None).round == 2


def test_without_a_server_for_good_there_is_no_model(client, front):
    there = front.answers["/standing"][0]
    there["servers"] = []
    with pytest.raises(ServerUnreachable, match="none of its servers is alive"):
        client.get_model(None)
    there["state"] = "finished"
    reply = client.get_model(None)
    assert (reply.verdict, reply.state) == ("pending", "finished")


def test_a_server_that_is_gone_refuses_and_the_front_is_asked_again(client, front, free_port):
    front.answers["/begin"][0]["server"] = f"127.0.0.1:{free_port}"
    ticket = client.start_round(100)
    assert not ticket.joined and f"127.0.0.1:{free_port}" in ticket.reason
