"""Who may take part in a job: another's name on every route, one upload at a time, a cap on joining, whole jobs."""

from __future__ import annotations

import socket
import time

import numpy as np
import pytest

from cross_silo.aggregation import service
from cross_silo.config.auth import OPERATOR, Auth
from cross_silo.data.manifest import write_manifest
from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.access import credentials
from cross_silo.protocol.client import AggregationClient
from cross_silo.protocol.connection import exchange
from cross_silo.protocol.messages import encode
from cross_silo.protocol.retry import RetryPolicy
from tests.support.auth_files import SILOS, make_auth
from tests.support.federation import Federation, manifest, reference


@pytest.fixture(scope="module")
def auth(tmp_path_factory):
    return make_auth(tmp_path_factory.mktemp("made") / "auth")


@pytest.fixture
def served(serve, auth):
    """A job whose silos show certificates."""
    return serve(silos=SILOS, auth=Auth("mtls", str(auth)))


def client(served, named, shown, worker="w"):
    """A client that says it is silo ``named`` and shows what ``shown`` has."""
    policy = RetryPolicy(first=0.01, deadline=0.5)
    config = served.job.config
    return AggregationClient(served.address, named, worker, "host:1", policy, 5.0, credentials(config, shown))


def test_a_round_of_silos_with_certificates(served):
    clients = [client(served, silo, silo, f"w{i}") for i, silo in enumerate(SILOS)]
    weights = {name: np.full(shape.shape, 2, np.float32) for name, shape in served.models.tensors.items()}
    for one in clients:
        one.acquire_lease(10, served.job.info.fingerprint)
    tickets = [one.start_round(10) for one in clients]
    for one, ticket in zip(clients, tickets):
        assert one.push(ticket, weights, 10, 0.5, {}).accepted
    reply = clients[0].get_model(1, wait=10)
    assert reply.round == 1
    assert all((array == 2).all() for array in reply.weights.values())


def test_nothing_can_be_asked_in_anothers_name(served):
    mine = client(served, "silo_0", "silo_0", "w0")
    mine.acquire_lease(10, served.job.info.fingerprint)
    ticket = mine.start_round(10)
    weights = {name: array.copy() for name, array in served.models.tensors.items()}
    thief = client(served, "silo_0", "silo_1", "w0")  # it even knows the worker's id
    refused = "silo silo_1 asks in the name of silo 'silo_0'"
    for attempt in (
        lambda: thief.acquire_lease(10, served.job.info.fingerprint),
        lambda: thief.start_round(10),
        lambda: thief.push(ticket, weights, 10, 0.5, {}),
        lambda: thief.report(1, "non-finite loss", "x"),
        lambda: thief.measured(served.job.instance, 0, {"AP": 1.0, "AP50": 1.0, "AP75": 1.0}),
        thief.heartbeat,
    ):
        with pytest.raises(UserError, match=refused):
            attempt()
    thief.release()
    assert served.leases.holder("silo_0").worker == "w0"
    assert served.rounds.phase != "idle" and not served.aggregator.take_records()
    assert mine.heartbeat().state == "running"


def test_every_route_needs_a_certificate(served, auth):
    """No route of the service answers a stranger; the operator sees /job alone."""
    config = served.job.config
    operator = credentials(config, OPERATOR, OPERATOR)
    host, port = served.address.split(":")
    for method, path in served.service._server.routes:
        body = None if method == "GET" else b"{}"
        reply = exchange(host, int(port), path, body, {}, 5.0, None, operator.context)
        assert reply.status == (200 if path == "/job" else 403), path


def test_one_upload_of_a_silo_at_a_time(served, auth):
    shown = credentials(served.job.config, "silo_0")
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        stalled = shown.context.wrap_socket(raw, server_hostname=host)
        stalled.sendall(b"POST /updateModel HTTP/1.1\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
        deadline = time.monotonic() + 5
        while "silo_0" not in busy(served) and time.monotonic() < deadline:
            time.sleep(0.01)
        update = encode("RequestUpdateModel", {"fl_name": "x", "fl_id": "silo_0", "timestamp": "1", "iteration": 1})
        reply = exchange(host, int(port), "/updateModel", update, {}, 5.0, None, shown.context)
        assert reply.status == 503
        other = credentials(served.job.config, "silo_1")
        assert exchange(host, int(port), "/updateModel", update, {}, 5.0, None, other.context).status != 503
        stalled.close()
    deadline = time.monotonic() + 5
    while busy(served) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not busy(served)


def busy(served):
    """Silos with an upload under way."""
    route = served.service._server.routes["POST", "/updateModel"]
    return set(route.__self__._uploading._busy)


def test_an_update_larger_than_the_model_is_refused_unread(served):
    shown = credentials(served.job.config, "silo_0")
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        peer = shown.context.wrap_socket(raw, server_hostname=host)
        peer.sendall(b"POST /updateModel HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 413")


def test_joining_has_a_cap(serve, monkeypatch):
    monkeypatch.setattr(service, "JOINS", (0.0, 3))
    served = serve()
    host, port = served.address.split(":")
    body = encode("RequestFLJob", {"fl_name": "x", "fl_id": "silo_0", "data_size": 1, "timestamp": "1"})
    told = {headers.WORKER: "w0"}
    statuses = [exchange(host, int(port), "/startFLJob", body, told, 5.0).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]


# whole jobs, with real processes


@pytest.fixture
def federation(tmp_path, redis_address, free_port):
    made = []

    def make(**settings) -> Federation:
        made.append(Federation(tmp_path, redis_address, free_port, rounds=2, silos=list(SILOS), **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run(job):
    """Run the job's two silos to the end, and compare the model with the one by hand."""
    server = job.server()
    workers = [job.worker(i) for i in range(2)]
    assert [job.status(worker) for worker in workers] == [0, 0], job.log("worker_0.log") + job.log("worker_1.log")
    assert job.status(server) == 0, job.log("server.log")
    number, model = job.model()
    assert number == 2
    expected = reference({"silo_0": 10, "silo_1": 10}, rounds=2)
    for name, array in model.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)


def test_a_job_with_certificates(federation, auth):
    run(federation(auth={"mode": "mtls", "dir": str(auth)}))


def test_a_job_with_tokens_that_nobody_else_ever_sees(federation, auth):
    job = federation(auth={"mode": "token", "dir": str(auth)}, enable_ssl=True)
    run(job)
    written = b"".join(path.read_bytes() for path in job.directory.rglob("*") if path.is_file())
    commands = "\0".join("\0".join(map(str, process.args)) for process in job.processes)
    for name in (*SILOS, OPERATOR):
        token = (auth / f"{name}.token").read_text().strip()
        assert token.encode() not in written
        assert token not in commands


def test_those_not_let_in_fail_with_a_reason_and_disturb_nobody(federation, auth, tmp_path):
    job = federation(auth={"mode": "mtls", "dir": str(auth)})
    server = job.server()
    strangers = make_auth(tmp_path / "strangers")
    (strangers / "ca.pem").write_bytes((auth / "ca.pem").read_bytes() + (strangers / "ca.pem").read_bytes())
    thief = tmp_path / "thief"
    thief.mkdir()
    for end, of in (("pem", "silo_1"), ("key", "silo_1")):
        (thief / f"silo_0.{end}").write_bytes((auth / f"{of}.{end}").read_bytes())
    (thief / "silo_0.key").chmod(0o600)
    (thief / "ca.pem").write_bytes((auth / "ca.pem").read_bytes())
    data = tmp_path / "data" / "mindrecord_0"
    data.mkdir(parents=True)
    write_manifest(str(data), manifest(("cell",)))
    for directory, reason in (
        (strangers, "does not accept this silo's certificate: unknown ca"),
        (thief, "is that of silo silo_1, expected silo silo_0"),
        (tmp_path / "nothing", "No such file"),
    ):
        log = f"{directory.name}.log"
        arguments = ["--yaml_config", str(job.yaml), "--config", str(job.model_yaml), "--worker_index", "7"]
        arguments += ["--silo", "silo_0", "--dataset_dir", str(data), "--http_server_address", job.address]
        arguments += ["--run_dir", str(job.run_dir)]
        env = {"CROSS_SILO_AUTH_DIR": str(directory)}
        assert job.status(job.start("tests.support.numpy_worker", log, *arguments, env=env)) == 2, job.log(log)
        assert reason in job.log(log)
    workers = [job.worker(i) for i in range(2)]
    assert [job.status(process) for process in (*workers, server)] == [0, 0, 0]
