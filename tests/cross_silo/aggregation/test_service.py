"""Whole rounds over loopback: our client, the engine's own messages without our headers, and what goes wrong."""

import errno
import http.client
import json
import threading
import time

import numpy as np
import pytest

from cross_silo.checkpoint import list_checkpoints, read_checkpoint
from cross_silo.errors import UserError
from cross_silo.protocol.client import LeaseLost, SiloTaken
from cross_silo.protocol.messages import decode, encode
from tests.support.served_rounds import SAMPLES, make_round, start, updates, weighted_mean


def engine_call(served, path, table, values):
    """Ask as the engine's own client does: no header of ours; returns (content type, message or text)."""
    connection = http.client.HTTPConnection(served.address, timeout=10)
    connection.request("POST", path, encode(table, values))
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 200
    if response.headers["Content-Type"] == "text/html":
        return body.decode()
    return decode(body, table.replace("Request", "Response"))


def test_rounds_equal_numpys_weighted_mean(served, tmp_path):
    clients = [served.client(0), served.client(1)]
    for n in (1, 2, 3):
        pushed, replies = make_round(clients, seed=n)
        expected = weighted_mean(pushed)
        for reply in replies:
            assert (reply.verdict, reply.round) == ("good", n)
            for name, values in expected.items():
                np.testing.assert_allclose(reply.weights[name], values.reshape(-1), rtol=1e-6, atol=1e-6)
        tensors, info = read_checkpoint(dict(list_checkpoints(tmp_path, "job"))[n])
        assert (info.round, info.instance, info.fingerprint) == (n, "i_test", served.job.info.fingerprint)
        for name, tensor in tensors.items():
            assert tensor.shape == served.job.shapes[name]
            np.testing.assert_array_equal(tensor.reshape(-1), replies[0].weights[name])
    assert replies[0].state == "finished"
    assert not clients[0].start_round(10).joined
    assert clients[0].start_round(10).state == "finished"


def test_records_say_what_happened(served):
    clients = [served.client(0), served.client(1)]
    make_round(clients)
    (record,) = served.aggregator.take_records()
    assert (record["round"], record["attempt"], record["good"], record["samples"]) == (1, 1, True, 40)
    assert {(p["silo"], p["node"], p["samples"], p["loss"], p["steps"]) for p in record["participants"]} == {
        ("silo_0", "host:0", 10, 0.5, 2),
        ("silo_1", "host:1", 30, 0.5, 2),
    }
    sent = sum(client.bytes_up for client in clients)
    assert 0 < record["bytes_up"] < sent
    assert record["checkpoint"].endswith(".ckpt")


def test_the_engines_own_client(served):
    """Section 3.7 of the protocol: start, push, poll; nothing but the engine's messages."""
    now = {"timestamp": "1"}
    model = engine_call(served, "/getModel", "RequestGetModel", {"iteration": 2**31 - 1})
    weights = {feature["weight_fullname"]: feature["data"].copy() for feature in model["feature_map"]}
    pushed = updates(weights, 5)
    for i, samples in enumerate(SAMPLES):
        values = {"fl_name": "any", "fl_id": f"site {i}", "data_size": samples, **now}
        joined = engine_call(served, "/startFLJob", "RequestFLJob", values)
        assert (joined["retcode"], joined["iteration"], bool(joined["is_selected"])) == (200, 1, True)
        assert joined["fl_plan_config"]["server_mode"] == "CLOUD_TRAINING"
        assert engine_call(served, "/startFLJob", "RequestFLJob", values)["retcode"] == 300
    for i, samples in enumerate(SAMPLES):
        pending = engine_call(served, "/getModel", "RequestGetModel", {"iteration": 1})
        assert (pending["retcode"], pending["feature_map"]) == (201, None)
        features = [{"weight_fullname": name, "data": v * np.float32(samples)} for name, v in pushed[i].items()]
        values = {"fl_id": f"site {i}", "iteration": 1, "feature_map": features[::-1], **now}
        assert engine_call(served, "/updateModel", "RequestUpdateModel", values)["retcode"] == 200
    deadline = time.monotonic() + 10
    while True:
        model = engine_call(served, "/getModel", "RequestGetModel", {"iteration": 1})
        if model["retcode"] == 200 or time.monotonic() > deadline:
            break
    assert model["iteration"] == 2
    for feature in model["feature_map"]:
        expected = weighted_mean(pushed)[feature["weight_fullname"]]
        np.testing.assert_allclose(feature["data"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "table", "answer"),
    [
        ("/startFLJob", "RequestFLJob", "Verify flatbuffers schema failed for RequestFLJob."),
        ("/updateModel", "RequestUpdateModel", "Verify flatbuffers schema failed for RequestUpdateModel."),
    ],
)
def test_messages_without_required_fields(served, path, table, answer):
    found = engine_call(served, path, table, {"fl_id": "silo_0"})
    assert found == answer or found["reason"] == answer


@pytest.mark.parametrize("path", ["/startFLJob", "/updateModel", "/getModel"])
def test_bytes_that_are_no_message(served, path):
    connection = http.client.HTTPConnection(served.address, timeout=10)
    connection.request("POST", path, b"\xff" * 64)
    body = connection.getresponse().read()
    connection.close()
    table = {"/startFLJob": "ResponseFLJob", "/updateModel": "ResponseUpdateModel", "/getModel": "ResponseGetModel"}
    reply = decode(body, table[path])
    assert reply["retcode"] == 400
    assert "The schema of Request" in reply["reason"]


def test_an_update_of_another_model_is_named(served):
    clients = [served.client(0), served.client(1)]
    tickets = start(clients)
    weights = {name: np.zeros(size, np.float32) for name, size in served.job.sizes.items()}
    with pytest.raises(UserError, match=r"tensor 'scale' is missing"):
        clients[0].push(tickets[0], {k: v for k, v in weights.items() if k != "scale"}, 10, 0.0, {})
    with pytest.raises(UserError, match=r"tensor 'scale' has 2 values, expected 1"):
        clients[0].push(tickets[0], {**weights, "scale": np.zeros(2)}, 10, 0.0, {})
    with pytest.raises(UserError, match=r"tensor 'bn.moving_mean' has 1 non-finite values, the first is nan at 1"):
        clients[0].push(tickets[0], {**weights, "bn.moving_mean": np.float32([0, np.nan])}, 10, 0.0, {})
    with pytest.raises(UserError, match=r"expected at most \d+"):
        clients[0].push(tickets[0], {**weights, "more": np.zeros(100_000)}, 10, 0.0, {})
    assert not served.rounds.participants["silo_0"].admitted
    assert clients[0].push(tickets[0], weights, 10, 0.0, {}).accepted


def test_a_double_push_is_counted_once(served):
    clients = [served.client(0), served.client(1)]
    pushed = updates(served.models.tensors, 3)
    tickets = start(clients)
    for _ in range(3):
        assert clients[0].push(tickets[0], pushed[0], 10, 0.0, {}).accepted
    assert clients[1].push(tickets[1], pushed[1], 30, 0.0, {}).accepted
    reply = clients[0].get_model(1, wait=10)
    for name, values in weighted_mean(pushed).items():
        np.testing.assert_allclose(reply.weights[name], values, rtol=1e-6, atol=1e-6)


def test_joining_twice_gives_the_same_ticket(served):
    client = served.client(0)
    assert client.start_round(10).joined
    again = client.start_round(10)
    assert (again.joined, again.iteration, again.attempt, again.instance) == (True, 1, 1, "i_test")


def test_a_full_disk_fails_the_round_and_keeps_the_good_model(served, tmp_path):
    clients = [served.client(0), served.client(1)]
    before = {name: view.copy() for name, view in served.models.tensors.items()}
    served.disk_error = OSError(errno.ENOSPC, "No space left on device")
    _, replies = make_round(clients)
    for reply in replies:
        assert reply.verdict == "failed"
        assert reply.reason == ("round 1 attempt 1 failed: its checkpoint cannot be written: No space left on device")
    newest = clients[0].get_model(None)
    assert newest.round == 0
    for name, values in before.items():
        np.testing.assert_array_equal(newest.weights[name], values)
    assert list_checkpoints(tmp_path, "job") == []
    served.disk_error = None
    pushed, replies = make_round(clients, seed=1)
    assert (replies[0].verdict, replies[0].round) == ("good", 1)
    for name, values in weighted_mean(pushed).items():
        np.testing.assert_allclose(replies[0].weights[name], values, rtol=1e-6, atol=1e-6)


def test_silos_that_cannot_be_had(served):
    served.client(0)
    intruder = served.client(0, leased=False)
    intruder._worker = "other"
    with pytest.raises(SiloTaken, match="silo 'silo_0' is taken by host:0"):
        intruder.acquire_lease(10, served.job.info.fingerprint)
    with pytest.raises(LeaseLost, match="is taken by host:0"):
        intruder.heartbeat()
    refused = intruder.start_round(10)
    assert not refused.joined
    assert refused.reason == "silo silo_0 is not leased to this worker; it is held by host:0"
    with pytest.raises(UserError, match=r"the worker's model \(fingerprint abc\) is not the job's"):
        served.client(1, leased=False).acquire_lease(10, "abc")
    served.client(1)
    with pytest.raises(UserError, match="'silo_2' is one too many"):
        served.client(2)


def test_a_silo_that_is_not_enrolled(serve):
    served = serve(silos=("north", "south"))
    with pytest.raises(UserError, match="'silo_0' is not enrolled; expected one of north, south"):
        served.client(0)
    values = {"fl_name": "j", "fl_id": "west", "data_size": 3, "timestamp": "1"}
    reply = engine_call(served, "/startFLJob", "RequestFLJob", values)
    assert (reply["retcode"], reply["reason"]) == (400, "silo 'west' is not enrolled; expected one of north, south")


def test_the_jobs_description(served):
    client = served.client(0)
    client.heartbeat(phase="training", step=7, loss=0.25)
    job = client.job()
    assert (job.fl_name, job.instance, job.state, job.iteration, job.good_rounds) == ("job", "i_test", "running", 1, 0)
    assert (job.tensors, job.model_bytes, job.classes) == (3, 60, ["cat", "dog"])
    assert job.initial_sha256 and job.fingerprint == served.job.info.fingerprint
    (participant,) = job.participants
    assert (participant["silo"], participant["phase"], participant["step"]) == ("silo_0", "training", 7)


@pytest.mark.parametrize(
    ("path", "content", "error"),
    [
        ("/lease", {"silo": 5}, "silo is 5"),
        ("/lease", {"silo": "a", "worker": "x" * 200}, "expected 1 to 128"),
        ("/lease", {"silo": "a\nb", "worker": "w"}, "printable"),
        ("/lease", {"silo": "a", "worker": "w", "samples": -1, "fingerprint": "f"}, "samples is -1"),
        ("/report", {"silo": "a", "worker": "w", "kind": "k", "iteration": "1"}, "must be whole numbers"),
        ("/measured", {"silo": "a", "worker": "w", "instance": "i", "round": "1"}, "round is '1', expected a whole"),
        ("/measured", {"silo": "a", "worker": "w", "instance": "i", "round": 1}, "metrics is None"),
        ("/measured", {"silo": "a", "worker": "w", "instance": "i", "round": 1, "metrics": {"AP": 2}}, "AP is 2"),
    ],
)
def test_malformed_json_is_refused_by_name(served, path, content, error):
    connection = http.client.HTTPConnection(served.address, timeout=10)
    connection.request("POST", path, json.dumps(content))
    response = connection.getresponse()
    assert response.status == 400
    assert error in json.loads(response.read())["error"]
    connection.close()


def test_a_disabled_job(served):
    clients = [served.client(0), served.client(1)]
    start(clients)
    served.aggregator.control(lambda rounds: rounds.disable())
    assert clients[0].get_model(1).reason == "round 1 attempt 1 failed: the job was disabled"
    ticket = clients[0].start_round(10)
    assert (ticket.joined, ticket.state) == (False, "disabled")
    assert clients[0].heartbeat().state == "disabled"
    served.aggregator.control(lambda rounds: rounds.enable())
    _, replies = make_round(clients)
    assert replies[0].verdict == "good"


def test_a_late_update_is_refused_with_the_reason(serve):
    served = serve(round={"start_fl_job_threshold": 3, "min_clients": 2, "update_model_time_window": 200})
    clients = [served.client(i) for i in range(3)]
    tickets = [client.start_round(10 * (i + 1)) for i, client in enumerate(clients)]
    pushed = [{name: np.full_like(v, i) for name, v in served.models.tensors.items()} for i in range(3)]
    for i in (0, 2):
        assert clients[i].push(tickets[i], pushed[i], 10 * (i + 1), 0.5, {}).accepted
    deadline = time.monotonic() + 10
    while served.rounds.good_rounds == 0 and time.monotonic() < deadline:
        served.aggregator.tick()
        time.sleep(0.02)
    reply = clients[0].get_model(1, wait=10)
    for values in reply.weights.values():
        np.testing.assert_allclose(values, (10 * 0 + 30 * 2) / 40)
    for _ in range(2):
        late = clients[1].push(tickets[1], pushed[1], 20, 0.5, {})
        assert not late.accepted
        assert late.reason == (
            "round 1 closed without silo silo_1: did not push before the updateModel window of 0.2 s "
            "(round.update_model_time_window) ended"
        )
    ticket = clients[1].start_round(20)
    assert (ticket.joined, ticket.iteration, clients[1].get_model(None).round) == (True, 2, 1)
    (record,) = served.aggregator.take_records()
    assert [each["silo"] for each in record["participants"]] == ["silo_0", "silo_2"]
    assert record["samples"] == 40 and list(record["left_out"]) == ["silo_1"]


def test_a_silo_without_a_place_waits_at_the_server(serve):
    served = serve(silos=3)
    clients = [served.client(i) for i in range(3)]
    start(clients)
    began = time.monotonic()
    ticket = clients[2].start_round(10, wait=0.3)
    assert time.monotonic() - began >= 0.3
    assert (ticket.joined, ticket.waits) == (False, True)
    found = []
    waiting = threading.Thread(target=lambda: found.append(clients[2].start_round(10, wait=30)))
    waiting.start()
    time.sleep(0.1)
    clients[1].report(1, "any", "")  # fails round 1: there is a place
    waiting.join(timeout=5)
    (ticket,) = found
    assert (ticket.joined, ticket.iteration, ticket.attempt) == (True, 1, 2)


def test_a_waiting_silo_hears_of_the_jobs_end(serve):
    served = serve(silos=3)
    clients = [served.client(i) for i in range(3)]
    start(clients)
    found = []
    waiting = threading.Thread(target=lambda: found.append(clients[2].start_round(10, wait=30)))
    waiting.start()
    time.sleep(0.1)
    served.aggregator.control(lambda rounds: rounds.end("stopped", "enough"))
    waiting.join(timeout=5)
    assert (found[0].joined, found[0].state) == (False, "stopped")


def test_uploads_beside_each_other(served):
    """Both updates are on the way at once, many times over."""
    served.rounds.last_iteration = 1000
    clients = [served.client(0), served.client(1)]
    for n in range(20):
        pushed = updates(served.models.tensors, n)
        tickets = start(clients)
        threads = [
            threading.Thread(target=client.push, args=(ticket, weights, samples, 0.0, {}))
            for client, ticket, weights, samples in zip(clients, tickets, pushed, SAMPLES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reply = clients[n % 2].get_model(n + 1, wait=10)
        for name, values in weighted_mean(pushed).items():
            np.testing.assert_allclose(reply.weights[name], values, rtol=1e-6, atol=1e-6)
