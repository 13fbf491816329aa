"""The federated YAML's contradictions are found before anything starts."""

from __future__ import annotations

import dataclasses

import pytest

from cross_silo.config.auth import Auth
from cross_silo.config.federated import FederatedConfig, load_federated, require_protected, split_address
from cross_silo.config.schema import build
from cross_silo.errors import UserError


def test_silos_default_to_the_threshold():
    config = build(FederatedConfig, {"round": {"start_fl_job_threshold": 3}}, "f.yaml")
    assert config.num_silos == 3
    assert config.silo_names == ()


def test_silos_may_be_named():
    config = build(FederatedConfig, {"silos": ["north", "south"]}, "f.yaml")
    assert config.num_silos == 2
    assert config.silo_names == ("north", "south")


@pytest.mark.parametrize(
    "values, part",
    [
        ({"round": {"start_fl_job_threshold": 3}, "silos": 2}, "no round could ever begin"),
        ({"silos": ["a", "a"]}, "names a silo twice"),
        ({"fl_name": "a b"}, "fl_name is 'a b'"),
        ({"fl_name": "../x"}, "fl_name"),
        ({"fl_iteration_num": 0}, "fl_iteration_num is 0"),
        ({"engine": "wheel"}, "engine is 'wheel', expected one of native"),
        ({"server_mode": "HYBRID_TRAINING"}, "expected CLOUD_TRAINING"),
        ({"round": {"update_model_ratio": 1.5}}, "round.update_model_ratio is 1.5, expected a share"),
        ({"round": {"update_model_ratio": 0.0}}, "round.update_model_ratio is 0.0, expected more than 0"),
        ({"round": {"min_clients": -1}}, "round.min_clients is -1, expected 0 or more"),
        ({"round": {"update_model_time_window": 10**400}}, "round.update_model_time_window is beyond 2^53"),
        ({"round": {"min_clients": 3}}, "round.min_clients is 3, but a round has 2 silos"),
        ({"round": {"min_clients": 1, "update_model_ratio": 0.5}}, "expected one of them"),
        ({"round": {"min_clients": 2, "select_num_clients": 1}}, "but a round has 1 silos"),
        ({"round": {"select_num_clients": 3}}, "a draw waits for 2 silos only"),
        ({"aggregation_trigger": {"metric": "loss"}}, "aggregation_trigger.metric is 'loss'"),
        ({"aggregation_trigger": {"operator": "<", "threshold": 5}}, "operator is '<', expected one of >=, >, =="),
        ({"aggregation_trigger": {"threshold": 5}}, "operator is not set"),
        ({"aggregation_trigger": {"operator": ">=", "threshold": 0}}, "a round without an update"),
        (
            {"aggregation_trigger": {"operator": ">", "threshold": 5}},
            "aggregation_trigger: num_of_ready_clients > 5 can never be met: a round has 2 silos",
        ),
        (
            {"round": {"min_clients": 2}, "aggregation_trigger": {"operator": "==", "threshold": 1}},
            "closes a round with 1 updates, but it needs 2",
        ),
        ({"aggregation": {"aggregation_type": "Median"}}, "aggregation.aggregation_type is 'Median'"),
        ({"distributed_cache": {"address": "127.0.0.1"}}, "expected host:port"),
        ({"evaluation": {"annotations": "val.json"}}, "set together"),
    ],
)
def test_a_contradiction_is_refused(values, part):
    with pytest.raises(UserError) as error:
        build(FederatedConfig, values, "f.yaml")
    assert part in str(error.value)
    assert str(error.value).startswith("f.yaml: ")


def test_addresses():
    assert split_address("127.0.0.1:6668", "--a") == ("127.0.0.1", 6668)
    assert split_address("[::1]:80", "--a") == ("::1", 80)
    for bad in ("127.0.0.1", ":80", "host:0", "host:70000", "host:x"):
        with pytest.raises(UserError, match="--a is"):
            split_address(bad, "--a")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_is_allowed(host):
    require_protected(host, "--a", FederatedConfig())


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org"])
def test_other_addresses_need_protection(host):
    with pytest.raises(UserError, match="--a is .* auth.mode is none; expected mtls or token"):
        require_protected(host, "--a", FederatedConfig())
    token = FederatedConfig(auth=Auth("token"), silos=("a", "b"))
    with pytest.raises(UserError, match="tokens would travel in the clear; expected enable_ssl"):
        require_protected(host, "--a", token)
    require_protected(host, "--a", dataclasses.replace(token, enable_ssl=True))
    require_protected(host, "--a", FederatedConfig(auth=Auth("mtls"), silos=("a", "b")))
    with pytest.raises(UserError, match="auth.mode is none"):
        require_protected(host, "--a", FederatedConfig(enable_ssl=True))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("auth: {mode: mtls}", "auth.mode is mtls, but silos names nobody"),
        ("auth: {mode: token}\nsilos: 2", "auth.mode is token, but silos names nobody"),
        ("auth: {mode: TLS}", "auth.mode is 'TLS', expected one of mtls, token, none"),
        ("auth: {mode: mtls}\nsilos: [a, ../b]", "silo '../b': expected 1-64 letters"),
        ("auth: {mode: mtls}\nsilos: [a, operator]", "silo 'operator': expected"),
        ("enable_ssl: true\nssl: {server_cert_path: s.p12}", "ssl.server_cert_path is not read .* auth.dir"),
        ("distributed_cache: {cert_filename: a.pem}", "set together"),
        (
            "distributed_cache: {cert_filename: a.pem, private_key_filename: a.key}",
            "without cacert_filename",
        ),
    ],
)
def test_what_would_not_be_authenticated_is_refused(tmp_path, text, problem):
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=problem):
        load_federated(file)


def test_the_directory_of_the_secrets(tmp_path, monkeypatch):
    file = tmp_path / "f.yaml"
    file.write_text("auth: {dir: of_the_yaml}")
    assert load_federated(file).auth.dir == "of_the_yaml"
    monkeypatch.setenv("CROSS_SILO_AUTH_DIR", "of_the_environment")
    assert load_federated(file).auth.dir == "of_the_environment"
    assert load_federated(file, "of_the_flag").auth.dir == "of_the_flag"


@pytest.mark.parametrize(
    "round, trigger, expected",
    [
        ({}, {}, (10, 10, 10, 0)),
        ({"update_model_ratio": 0.7}, {}, (10, 10, 7, 0)),  # 0.7 * 10 is a little more than 7 in binary
        ({"update_model_ratio": 0.61}, {}, (10, 10, 7, 0)),
        ({"min_clients": 4}, {}, (10, 10, 4, 0)),
        ({"select_num_clients": 5, "update_model_ratio": 0.5}, {}, (10, 5, 3, 0)),
        ({}, {"operator": ">", "threshold": 5}, (10, 10, 6, 6)),
        ({}, {"operator": ">=", "threshold": 10}, (10, 10, 10, 10)),
        ({"min_clients": 2}, {"operator": "==", "threshold": 6}, (10, 10, 2, 6)),
    ],
)
def test_how_many_silos_a_round_needs(round, trigger, expected):
    values = {"round": {"start_fl_job_threshold": 10, **round}, "aggregation_trigger": trigger, "silos": 12}
    found = build(FederatedConfig, values, "f.yaml").participation
    assert (found.ready, found.most, found.least, found.enough) == expected
    assert found.draws == bool(round.get("select_num_clients"))
