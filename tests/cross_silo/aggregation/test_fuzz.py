"""A server process under random, truncated, stalled and idle requests: it serves on, in bounded memory, unchanged."""

import contextlib
import json
import socket

import numpy as np
import pytest

from cross_silo.aggregation.job_routes import JobRoutes
from cross_silo.coordination import JobStore, connect
from cross_silo.launch.proc import peak_memory
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.messages import encode
from cross_silo.protocol.retry import RetryPolicy
from tests.support.federation import Federation
from tests.support.fuzz import Fuzz, Target
from tests.support.numpy_trainer import SHAPES

SILOS = ("north", "south")
SAMPLES = 10
BOUND_MB = 60
"""Memory that the server may take beside what it has before: buffers of the uploads, threads' stacks."""


@pytest.fixture
def job(tmp_path, redis_address, free_port):
    """A job whose rounds may fail as often as they like."""
    settings = {"silos": list(SILOS), "lease": 3600.0, "round": {"max_consecutive_failures": 2**31 - 1}}
    made = Federation(tmp_path, redis_address, free_port, **settings)
    made.redis_address, made.process = redis_address, made.server()
    yield made
    made.close()


def client(job, silo):
    policy = RetryPolicy(first=0.01, deadline=30)
    made = AggregationClient(job.address, silo, f"w_{silo}", "host:1", policy, wait_for_server=5)
    made.acquire_lease(SAMPLES, made.job().fingerprint)
    return made


def targets(fingerprint):
    """A sound request to every path, in the name of one silo: two would be a round."""
    silo = {"silo": "north", "worker": "w_north"}
    bodies = {
        "lease": {**silo, "samples": SAMPLES, "fingerprint": fingerprint, "node": "host:1"},
        "heartbeat": {**silo, "phase": "training", "step": 7, "loss": 0.5, "fingerprint": fingerprint},
        "report": {**silo, "kind": "non-finite loss", "detail": "x", "iteration": 1},
        "measured": {**silo, "instance": "i", "round": 0, "metrics": {"AP": 0.5, "AP50": 0.5, "AP75": 0.5}},
        "release": silo,
    }
    told = {"fl_name": "job", "fl_id": "north", "timestamp": "1", "iteration": 1}
    features = [
        {"weight_fullname": name, "data": np.ones(int(np.prod(shape)), np.float32)} for name, shape in SHAPES.items()
    ]
    found = [
        Target("POST", "/startFLJob", encode("RequestFLJob", {**told, "data_size": SAMPLES})),
        Target("POST", "/updateModel", encode("RequestUpdateModel", {**told, "feature_map": features})),
        Target("POST", "/getModel", encode("RequestGetModel", {"iteration": 1, "timestamp": "1"})),
    ]
    found += [Target("GET", path, b"") for path in ("/job", "/status", "/metrics")]
    return found + [Target("POST", f"/{name}", json.dumps(body).encode()) for name, body in bodies.items()]


def assert_good_round(job):
    """Both silos make a round whose model is the mean of what they push; it is the job's first good one."""
    store = JobStore(connect(job.redis_address, start_embedded=False, user=None), job.name)
    clients = [client(job, silo) for silo in SILOS]
    for command, state in (("disable", "disabled"), ("enable", "running")):  # whatever is in the round's sum is void
        store.request(command)
        job.wait(lambda state=state: clients[0].job().state == state, f"the job to be {state}")
    newest = clients[0].get_model(None)
    assert newest.round == 0
    for name, values in newest.weights.items():
        np.testing.assert_array_equal(values, np.ones(len(values)), err_msg=name)
    tickets = [each.start_round(SAMPLES, wait=5) for each in clients]
    for i, (each, ticket) in enumerate(zip(clients, tickets)):
        weights = {name: np.full(shape, 2.0 + i, np.float32) for name, shape in SHAPES.items()}
        assert each.push(ticket, weights, SAMPLES, 0.5, {}).accepted
    reply = clients[0].get_model(1, wait=20)
    assert (reply.verdict, reply.round) == ("good", 1)
    for values in reply.weights.values():
        np.testing.assert_allclose(values, 2.5)
    for each in clients:
        each.release()


def test_every_path_is_a_target():
    from_routes = {path for _, path in JobRoutes(None, None).routes()} | {"/startFLJob", "/updateModel", "/getModel"}
    assert from_routes | {"/status", "/metrics"} == {target.path for target in targets("f")}


@pytest.mark.parametrize("count", [500, pytest.param(12_000, marks=pytest.mark.long)])
def test_random_requests(job, count):
    north = client(job, "north")
    client(job, "south")
    sound = targets(north.job().fingerprint)
    fuzz = Fuzz(job.address, count, workers=("w_north", "", "stranger"))
    fuzz.run(sound, 2 * len(sound))
    before = peak_memory(job.process.pid)
    faults = fuzz.run(sound, count)
    assert not faults, f"{faults[0].request[:300]!r}\n{job.log('server.log').partition('Traceback')[2][:4000]}"
    assert peak_memory(job.process.pid) - before < BOUND_MB
    assert job.process.poll() is None
    answered = {path for path, status in fuzz.sent if status == 200}
    assert answered == {target.path for target in sound}, "a path that was never reached"
    assert client(job, "north").job().good_rounds == 0
    assert_good_round(job)


def test_stalled_and_truncated_uploads(job):
    """They hold every buffer; all other requests are answered meanwhile, and uploads as soon as they are gone."""
    north = client(job, "north")
    before = peak_memory(job.process.pid)
    update = next(target for target in targets("f") if target.path == "/updateModel").body
    host, port = job.address.split(":")
    peers = []
    for i in range(12):
        peer = socket.create_connection((host, int(port)))
        head = f"POST /updateModel HTTP/1.1\r\nContent-Length: {len(update)}\r\nCross-Silo-Worker: stranger_{i}\r\n\r\n"
        peer.sendall(head.encode() + update[: len(update) // 2])
        peers.append(peer)
    for _ in range(5):
        assert north.heartbeat().state == "running"
        assert north.get_model(None).round == 0
        assert north.job().iteration == 1
    for peer in peers:
        peer.close()
    assert peak_memory(job.process.pid) - before < BOUND_MB
    assert_good_round(job)


def test_500_idle_connections(job):
    before = peak_memory(job.process.pid)
    host, port = job.address.split(":")
    with contextlib.ExitStack() as stack:
        for i in range(500):
            peer = stack.enter_context(socket.create_connection((host, int(port))))
            with contextlib.suppress(ConnectionError):  # the oldest ones make room
                peer.sendall(b"POST /updateModel HTTP/1.1\r\n"[: i % 29])
        assert_good_round(job)
    assert peak_memory(job.process.pid) - before < BOUND_MB
