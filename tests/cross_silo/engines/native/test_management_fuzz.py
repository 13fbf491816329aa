"""The scheduler's REST under random and mutated requests: it serves on, and nothing but what was asked for is done."""

import http.client
import json

import pytest

from cross_silo.aggregation.job import changed_settings
from cross_silo.config.federated import FederatedConfig, Round
from cross_silo.engines.native.management import Management
from cross_silo.protocol.http_service import HttpService
from tests.support.fuzz import Fuzz, Target

CONFIG = FederatedConfig(fl_name="job", fl_iteration_num=5, round=Round(start_fl_job_threshold=3))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_random_requests(store, caplog, count):
    store.begin({"instance": "i1"})
    store.beat("server", "host:7", {"address": "127.0.0.1:6668"}, seconds=3600)
    routes = Management(store, CONFIG).routes()
    service = HttpService("127.0.0.1:0", "--scheduler_manage_address", routes)
    service.start()
    body = json.dumps({"start_fl_job_time_window": 3000, "update_model_ratio": 1.0, "client_epoch_num": 2}).encode()
    targets = [Target(method, path, body if path == "/newInstance" else b"") for method, path in sorted(routes)]
    try:
        fuzz = Fuzz(service.address, count)
        for state in ("running", "disabled"):
            store.update(state=state)
            assert not fuzz.run(targets, count // 2), caplog.text[-4000:]
        assert {path for path, status in fuzz.sent if status == 200} == {path for _, path in routes}
        connection = http.client.HTTPConnection(service.address, timeout=10)
        connection.request("GET", "/state")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        service.stop(grace=0)
    asked = store.take_requests()
    assert {command for command, _ in asked} == {"enable", "disable", "new_instance"}
    for changes in (payload for command, payload in asked if command == "new_instance"):
        assert changed_settings(CONFIG, changes).round.start_fl_job_time_window / 1000 < float("inf")
    assert store.job()["state"] == "disabled"
