"""What a worker tells of itself is held to what its readers expect."""

import http.client
import json


def post(served, path, content):
    connection = http.client.HTTPConnection(served.address, timeout=10)
    connection.request("POST", path, content if isinstance(content, str) else json.dumps(content))
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body)


def told(served):
    (participant,) = served.client(1, leased=False).job().participants
    return participant


def test_texts_and_numbers_of_a_heartbeat(served):
    served.client(0)
    sound = {"silo": "silo_0", "worker": "w0", "node": "host:0", "phase": "training", "step": 7, "loss": 0.25}
    assert post(served, "/heartbeat", sound)[0] == 200
    assert {**told(served), **sound} == told(served)


def test_what_is_of_another_kind_is_not_kept(served):
    served.client(0)
    odd = '"step": "7", "loss": NaN, "samples": 1e400, "epoch": true, "iteration": [1], "phase": 3, "node": null'
    assert post(served, "/heartbeat", f'{{"silo": "silo_0", "worker": "w0", {odd}}}')[0] == 200
    assert told(served) == {"silo": "silo_0", "worker": "w0", "node": "host:0", "samples": 10}  # those of the lease


def test_texts_are_one_short_line(served):
    served.client(0)
    assert post(served, "/heartbeat", {"silo": "silo_0", "worker": "w0", "phase": "a\nb\x00" + "c" * 500})[0] == 200
    assert told(served)["phase"] == ("a b " + "c" * 500)[:128]
