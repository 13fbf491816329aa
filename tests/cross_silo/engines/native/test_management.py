"""The scheduler's replies, asked over HTTP of a job in a real Redis."""

import dataclasses
import http.client
import json
import re

import pytest

from cross_silo.config.federated import FederatedConfig, Round
from cross_silo.config.stop_condition import StopCondition
from cross_silo.coordination import JobStore
from cross_silo.coordination.client import make_client
from cross_silo.engines.native.management import Management, Refused
from cross_silo.protocol.http_service import HttpService

CONFIG = FederatedConfig(fl_name="job", fl_iteration_num=5, round=Round(start_fl_job_threshold=3))


def serve(store):
    service = HttpService("127.0.0.1:0", "--scheduler_manage_address", Management(store, CONFIG).routes())
    service.start()
    return service


@pytest.fixture
def ask(store):
    """From a path, method and body to (status, decoded JSON)."""
    service = serve(store)
    host, port = service.address.split(":")

    def call(path, method="POST", body=None):
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            assert response.headers["Content-Type"] == "application/json"
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    yield call
    service.stop()


def begin(store, **fields):
    store.begin({"instance": "i1", **fields})
    store.beat("server", "host:7", {"address": "127.0.0.1:6668"})


NODES = [{"node_id": "host:7", "role": "SERVER", "tcp_address": "127.0.0.1:6668"}]


@pytest.mark.parametrize("path", ["/state", "/queryInstance", "/enableFLS", "/disableFLS"])
def test_a_job_that_never_began_is_not_found(ask, path):
    assert ask(path) == (400, {"code": "1", "error_message": "Cannot find cluster info for job"})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_state_of_a_running_job(ask, store, method):
    begin(store)
    assert ask("/state", method) == (
        200,
        {
            "code": "0",
            "message": "Get cluster state successful.",
            "cluster_state": "CLUSTER_READY",
            "nodes": NODES,
            "state": "running",
            "reason": "",
        },
    )


def test_all_servers_that_are_there_are_nodes(ask, store):
    begin(store)
    others = [{"server": 1, "address": "127.0.0.1:6669", "lost": ""}, {"server": 2, "address": "a:1", "lost": "gone"}]
    store.beat("server", "host:7", {"address": "127.0.0.1:6668", "servers": others})
    nodes = ask("/state")[1]["nodes"]
    assert nodes == [*NODES, {"node_id": "host:7/server_1", "role": "SERVER", "tcp_address": "127.0.0.1:6669"}]


def test_state_without_a_live_server_does_not_claim_to_be_ready(ask, store):
    store.begin({"instance": "i1"})
    _, reply = ask("/state", "GET")
    assert (reply["cluster_state"], reply["state"], reply["nodes"]) == ("CLUSTER_DISABLE", "no_server", [])
    assert reply["reason"] == "no server is alive"


@pytest.mark.parametrize("state", ["finished", "failed", "stopped"])
def test_state_of_an_ended_job_is_finish_with_how_it_ended(ask, store, state):
    begin(store)
    store.end(state, "silo_1 was missing")
    _, reply = ask("/state", "GET")
    assert (reply["cluster_state"], reply["state"], reply["reason"]) == ("CLUSTER_FINISH", state, "silo_1 was missing")


def test_disable_and_enable_reach_the_server_once_each(ask, store):
    begin(store)
    assert ask("/enableFLS") == (400, {"code": "1", "error_message": "The instance has already been enabled."})
    assert ask("/disableFLS") == (200, {"code": "0", "message": "start disabling FL-Server successful."})
    assert store.take_requests() == [("disable", {})]
    store.update(state="disabled")
    assert ask("/state")[1]["cluster_state"] == "CLUSTER_DISABLE"
    assert ask("/disableFLS") == (400, {"code": "1", "error_message": "The instance has already been disabled."})
    assert ask("/enableFLS") == (200, {"code": "0", "message": "start enabling FL-Server successful."})
    assert store.take_requests() == [("enable", {})]


def test_an_ended_job_cannot_be_switched(ask, store):
    begin(store)
    store.end("finished", "")
    assert ask("/disableFLS") == (
        400,
        {"code": "1", "error_message": "The instance is completed and cannot be disabled."},
    )
    assert store.take_requests() == []


@pytest.mark.parametrize("path", ["/enableFLS", "/disableFLS", "/newInstance"])
def test_changes_need_post_and_a_live_server(ask, store, path):
    store.begin({"instance": "i1", "state": "disabled" if path == "/enableFLS" else "running"})
    assert ask(path, "GET")[0] == 405
    assert ask(path, body="{}") == (400, {"code": "1", "error_message": "No server is alive to do it."})
    assert store.take_requests() == []


def test_query_instance_shows_the_running_instances_settings_not_this_yamls(ask, store):
    running = dataclasses.replace(CONFIG, fl_iteration_num=9, round=Round(start_fl_job_threshold=2))
    begin(store, settings=json.dumps(dataclasses.asdict(running)))
    status, reply = ask("/queryInstance", "GET")
    assert (status, reply["code"], reply["message"]) == (200, "0", "Query Instance successful.")
    assert reply["nodes"] == NODES
    result = reply["result"]
    assert (result["instance"], result["fl_iteration_num"], result["start_fl_job_threshold"]) == ("i1", 9, 2)
    assert (result["update_model_ratio"], result["client_epoch_num"]) == (1.0, 1)


@pytest.mark.parametrize("settings", ["", "{broken", "[1]", '{"fl_nam": 1}'])
def test_query_instance_without_usable_settings_shows_the_yamls(ask, store, settings):
    begin(store, settings=settings)
    assert ask("/queryInstance")[1]["result"]["start_fl_job_threshold"] == 3


def test_new_instance_hands_its_settings_to_the_server(ask, store):
    begin(store)
    body = {"fl_iteration_num": 7, "start_fl_job_time_window": 1000, "client_learning_rate": 0.5}
    assert ask("/newInstance", body=json.dumps(body)) == (
        200,
        {"code": "0", "message": "Start new instance successful."},
    )
    assert ask("/newInstance", body="{}")[0] == 200
    assert store.take_requests() == [("new_instance", body), ("new_instance", {})]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "The post message size is invalid."),
        ("{", "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        ("\xff", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"fl_iteration_num": -1}', "Field fl_iteration_num should be unsigned integer number; found -1"),
        ('{"fl_iteration_num": 1.5}', "Field fl_iteration_num should be unsigned integer number"),
        ('{"start_fl_job_time_window": "9"}', "Field start_fl_job_time_window should be unsigned"),
        ('{"client_epoch_num": true}', "Field client_epoch_num should be unsigned"),
        ('{"update_model_ratio": 0}', r"Field update_model_ratio should be a number in range \(0,1.0\]"),
        ('{"update_model_ratio": NaN}', "Field update_model_ratio"),
        ('{"client_learning_rate": Infinity}', "Field client_learning_rate"),
        ('{"fl_iteration_num": 0}', "fl_iteration_num is 0, expected 1 to"),
        ('{"client_epoch_num": 0}', "client_epoch_num is 0"),
        ('{"epoch_num": 3}', "unknown key 'epoch_num'; did you mean 'client_epoch_num'"),
    ],
)
def test_new_instance_refuses_what_is_wrong_by_name(ask, store, body, message):
    begin(store)
    status, reply = ask("/newInstance", body=body.encode("latin-1"))
    assert (status, reply["code"]) == (400, "1")
    assert re.search(message, reply["error_message"])
    assert store.take_requests() == []


def test_a_large_body_is_refused(ask, store):
    begin(store)
    status, reply = ask("/newInstance", body="{" + " " * 70_000 + "}")
    assert (status, reply["code"]) == (413, "1")


@pytest.mark.parametrize("path", ["/scaleout", "/scalein", "/", "/state/x"])
def test_other_routes_are_not_there(ask, path):
    assert ask(path)[0] == 404


def test_without_redis_the_reply_says_so(free_port):
    service = serve(JobStore(make_client("127.0.0.1", free_port, tries=0), "job"))
    try:
        connection = http.client.HTTPConnection(*service.address.split(":"), timeout=10)
        connection.request("GET", "/state")
        response = connection.getresponse()
        assert response.status == 400
        assert json.loads(response.read()) == {
            "code": "1",
            "error_message": "Failed to access the cache server. Please retry later.",
        }
        connection.close()
    finally:
        service.stop()


def test_a_new_instance_has_no_more_rounds_than_the_stop_condition(store):
    stop = StopCondition(metric="rounds", operator=">=", threshold=4)
    config = dataclasses.replace(CONFIG, stop_condition=stop)
    begin(store, settings=json.dumps(dataclasses.asdict(config)))
    management = Management(store, config)
    with pytest.raises(Refused, match="fl_iteration_num is 9, but stop_condition ends with round 4"):
        management.new_instance(b'{"fl_iteration_num": 9}')
    with pytest.raises(Refused, match="stop_condition: rounds >= 4 is never met within the 3 rounds"):
        management.new_instance(b'{"fl_iteration_num": 3}')
    management.new_instance(b'{"client_epoch_num": 2}')
    assert store.take_requests() == [("new_instance", {"client_epoch_num": 2})]
