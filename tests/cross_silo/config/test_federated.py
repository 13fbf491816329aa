"""The federated YAML's contradictions are found before anything starts."""

from __future__ import annotations

import pytest

from cross_silo.config.federated import FederatedConfig, require_loopback, split_address
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
        ({"round": {"update_model_ratio": 0.5}}, "round.update_model_ratio is 0.5, expected 1.0"),
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
    require_loopback(host, "--a")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.org"])
def test_other_addresses_are_refused(host):
    with pytest.raises(UserError, match="not authenticated"):
        require_loopback(host, "--a")
