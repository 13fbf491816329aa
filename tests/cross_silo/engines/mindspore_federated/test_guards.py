"""What the wheel's engine gets wrong is refused by the key's name and the reason, before anything starts."""

import pytest

from cross_silo.config.federated import NO_AUTH, load_federated, require_protected
from cross_silo.coordination.client import PASSWORD
from cross_silo.engines.mindspore_federated import guards
from cross_silo.errors import UserError

MINIMAL = "engine: mindspore_federated\n"


def load(tmp_path, text=""):
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL + text)
    return load_federated(path)


def test_what_the_engine_does_right_is_let_through(tmp_path):
    guards.check_config(load(tmp_path, "aggregation: {aggregation_type: FedAvg}\nsilos: [a, b]\n"), "job.yaml")


@pytest.mark.parametrize(
    "text, key, why",
    [
        ("round: {update_model_ratio: 0.6}", "round.update_model_ratio is 0.6", "late ones"),
        ("round: {start_fl_job_threshold: 3, min_clients: 2}", "round.min_clients is 2", "late ones"),
        ("round: {select_num_clients: 1}", "round.select_num_clients is 1", "late ones"),
        (
            "aggregation_trigger: {metric: num_of_ready_clients, operator: '>=', threshold: 1}",
            "aggregation_trigger",
            "late",
        ),
        ("silos: 3", "silos is 3, expected 2", "more workers than"),
        ("aggregation: {max_update_norm: 2.0}", "aggregation.max_update_norm is 2.0", "averages only"),
        ("aggregation: {rule: clipped_mean, clip_norm: 1.0}", "aggregation.rule is 'clipped_mean'", "averages only"),
        ("round: {start_fl_job_time_window: 500}", "round.start_fl_job_time_window is 500", "whole seconds"),
        ("round: {update_model_time_window: 999}", "round.update_model_time_window is 999", "whole seconds"),
        ("enable_ssl: true", "enable_ssl is True", "TLS"),
        ("silos: [a, b]\nauth: {mode: token, dir: d}", "auth.mode is 'token'", "no authentication"),
        ("distributed_cache: {user: fl}", "distributed_cache.user is 'fl'", "Redis"),
        ("distributed_cache: {address: 'localhost:2345'}", "distributed_cache.address", "literal IPv4"),
    ],
)
def test_what_it_would_ignore_or_break_on_is_refused(tmp_path, text, key, why):
    config = load(tmp_path, text + "\n")
    with pytest.raises(UserError) as error:
        guards.check_config(config, "job.yaml")
    assert key in str(error.value) and why in str(error.value)


@pytest.mark.parametrize(
    "text, key",
    [
        ("compression: {upload_compress_type: DIFF_SPARSE_QUANT}", "compression.upload_compress_type"),
        ("encrypt: {encrypt_type: STABLE_PW_ENCRYPT}", "encrypt.encrypt_type"),
        ("client: {http_url_prefix: fed}", "client.http_url_prefix"),
        ("aggregation_type: Scaffold", "aggregation_type"),
        ("aggregation: {aggregation_type: FedNova}", "aggregation_type"),
    ],
)
def test_what_the_engine_has_but_this_job_does_not_use_is_refused(tmp_path, text, key):
    with pytest.raises(UserError, match=key):
        load(tmp_path, text + "\n")


def test_a_password_of_redis_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD, "secret")
    with pytest.raises(UserError, match=PASSWORD):
        guards.check_config(load(tmp_path), "job.yaml")


@pytest.mark.parametrize("address", ["localhost:6668", "0.0.0.0:6668", "[::1]:6668", "example.org:6668"])
def test_the_engine_listens_at_literal_addresses_of_one_machine_only(address):
    with pytest.raises(UserError, match=r"--http_server_address is .*expected"):
        guards.check_address(address, "--http_server_address")


def test_an_address_that_others_reach_needs_the_flag(tmp_path, monkeypatch):
    config = load(tmp_path)
    monkeypatch.delenv(NO_AUTH, raising=False)
    with pytest.raises(UserError, match="--i_understand_no_auth"):
        require_protected("10.0.0.1", "--http_server_address", config)
    monkeypatch.setenv(NO_AUTH, "1")
    require_protected("10.0.0.1", "--http_server_address", config)


def test_the_flag_opens_no_other_engine(tmp_path, monkeypatch):
    monkeypatch.setenv(NO_AUTH, "1")
    path = tmp_path / "native.yaml"
    path.write_text("fl_name: job\n")
    with pytest.raises(UserError, match=r"auth\.mode is none"):
        require_protected("10.0.0.1", "--http_server_address", load_federated(path))


@pytest.mark.parametrize("name", ["control.weight", "fc.min_val", "max_val"])
def test_names_that_mean_something_else_to_the_engine_are_refused(name):
    guards.check_names(["fc.weight", "uncontrol.weight"])
    with pytest.raises(UserError, match="tensor"):
        guards.check_names(["fc.weight", name])
