"""The management REST is the operator's: every route, by certificate and by token."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time

import pytest
import yaml

from cross_silo.config.auth import OPERATOR, SCHEDULER, SERVER, SILO, Auth
from cross_silo.config.federated import FederatedConfig
from cross_silo.coordination.embedded import EmbeddedRedis
from cross_silo.engines.native.management import Management
from cross_silo.launch.ready import read_ready
from cross_silo.protocol.access import Access, Credentials, credentials
from cross_silo.protocol.connection import exchange
from cross_silo.protocol.http_service import HttpService
from tests.support.auth_files import SILOS, config, make_auth


@pytest.fixture(scope="module")
def auth(tmp_path_factory):
    return make_auth(tmp_path_factory.mktemp("made") / "auth")


@pytest.fixture(params=["mtls", "token"])
def settings(request, auth) -> FederatedConfig:
    return dataclasses.replace(config(auth, request.param), fl_name="job")


@pytest.fixture
def served(settings, store):
    store.begin({"instance": "i1"})
    store.beat("server", "host:7", {"address": "127.0.0.1:6668"})
    routes = Management(store, settings).routes()
    service = HttpService("127.0.0.1:0", "--address", routes, Access(settings, SCHEDULER, (OPERATOR,)))
    service.start()
    yield service
    service.stop(grace=0)


def ask(address, shown, method, path, body=b"{}"):
    host, port = address.split(":")
    reply = exchange(
        host, int(port), path, None if method == "GET" else body, shown.headers(), 5.0, None, shown.context
    )
    return reply.status, json.loads(bytes(reply.body))


def test_a_silo_may_ask_nothing(served, settings, store):
    shown = credentials(settings, "silo_0")
    routes = served._server.routes
    assert len(routes) >= 7
    for method, path in routes:
        status, told = ask(served.address, shown, method, path)
        assert (status, told["error"]) == (403, f"{path} is not for silo silo_0; expected the role operator")
    assert store.take_requests() == []


def test_a_server_may_ask_nothing(served, settings):
    if settings.auth.mode == "mtls":
        shown = credentials(settings, SERVER, SERVER)
        assert ask(served.address, shown, "POST", "/disableFLS")[0] == 403


def test_the_operator_may_ask_everything(served, settings, store):
    shown = credentials(settings, OPERATOR, OPERATOR)
    for method, path in served._server.routes:
        status, told = ask(served.address, shown, method, path, b'{"client_epoch_num": 2}')
        assert status in (200, 400) and "error" not in told, path
    assert ("disable", {}) in store.take_requests()


def test_nobody_may_ask_nothing(served, settings):
    if settings.auth.mode == "token":
        for method, path in served._server.routes:
            assert ask(served.address, Credentials(), method, path)[0] == 401


def test_the_scheduler_process_over_tls(auth, tmp_path, free_port):
    content = {
        "fl_name": "job",
        "silos": list(SILOS),
        "auth": {"mode": "mtls", "dir": str(auth)},
        "distributed_cache": {"address": f"127.0.0.1:{free_port}"},
    }
    (tmp_path / "federated.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "scheduler").mkdir()
    command = [sys.executable, "-m", "cross_silo.engines.native.scheduler", "--run_dir", str(tmp_path)]
    command += ["--yaml_config", str(tmp_path / "federated.yaml"), "--scheduler_manage_address", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 30
        while read_ready(tmp_path / "scheduler", process.pid) is None:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        address = read_ready(tmp_path / "scheduler", process.pid)["address"]
        job = FederatedConfig(fl_name="job", silos=SILOS, auth=Auth("mtls", str(auth)))
        status, told = ask(address, credentials(job, OPERATOR, OPERATOR), "GET", "/state")
        assert (status, told["error_message"]) == (400, "Cannot find cluster info for job")
        assert ask(address, credentials(job, "silo_1", SILO), "GET", "/state")[0] == 403
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
        EmbeddedRedis("127.0.0.1", free_port).stop_if_unused()
    assert "is not for silo silo_1" in output
