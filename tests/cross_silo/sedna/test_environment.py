"""The environment of a Sedna container: any case, typed, conflicts refused, secrets never shown."""

import pytest

from cross_silo.errors import UserError
from cross_silo.sedna.environment import Settings, read_settings

SPELLINGS = ("epochs", "EPOCHS", "Epochs")


@pytest.mark.parametrize("name", SPELLINGS)
def test_names_count_in_any_case(name):
    assert Settings.from_env({name: "3"}).epochs == 3


def test_spellings_that_agree_are_one_and_those_that_do_not_are_refused():
    assert Settings.from_env(dict.fromkeys(SPELLINGS, "3")).epochs == 3
    with pytest.raises(UserError, match=r"epochs: conflicts with another spelling: epochs='3' and EPOCHS='4'"):
        Settings.from_env({"epochs": "3", "EPOCHS": "4"})


def test_an_empty_value_is_none():
    assert Settings.from_env({"batch_size": "", "BATCH_SIZE": "8", "MODEL_URL": ""}) == Settings(batch_size=8)


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("epochs", "1.5", "expected a whole number, at least 1"),
        ("exit_round", "0", "expected a whole number, at least 1"),
        ("AGG_PORT", "70000", "expected a whole number, 1 to 65535"),
        ("learning_rate", "nan", "expected a number above 0"),
        ("epsilon", "-1", "expected a number above 0"),
        ("cut_layer", "relu3", "expected a whole number"),
        ("cut_layer", "٤", "expected a whole number"),
        ("TRANSMITTER", "mqtt", "expected ws or s3"),
    ],
)
def test_values_are_typed(name, value, reason):
    with pytest.raises(UserError) as error:
        Settings.from_env({name: value})
    assert str(error.value) == f"environment variable {name}: found {value!r}, {reason}"


def test_all_that_is_wrong_is_told_and_the_rest_is_read():
    settings, problems = read_settings({"epochs": "x", "batch_size": "y", "exit_round": "3"})
    assert [name for name, _ in problems] == ["epochs", "batch_size"]
    assert settings == Settings(exit_round=3)


def test_secrets_are_in_no_text():
    environ = {"ACCESS_KEY_ID": "AKEY", "SECRET_ACCESS_KEY": "hidden", "S3_ENDPOINT_URL": "http://s3"}
    settings = Settings.from_env(environ)
    assert (settings.access_key_id, settings.secret_access_key) == ("AKEY", "hidden")
    assert "hidden" not in repr(settings)
    assert "AKEY" not in repr(settings)
    with pytest.raises(UserError, match="conflicts") as error:
        Settings.from_env({**environ, "secret_access_key": "unlike"})
    assert "hidden" not in str(error.value)
    assert "unlike" not in str(error.value)


def test_defaults_are_those_of_sednas_library():
    settings = Settings.from_env({})
    assert (settings.rounds, settings.bind_address, settings.server_address) == (1, "127.0.0.1:7363", "127.0.0.1:7363")
    told = Settings.from_env({"AGG_BIND_IP": "0.0.0.0", "AGG_BIND_PORT": "9", "AGG_IP": "yolo-aggregation.default"})
    assert (told.bind_address, told.server_address) == ("0.0.0.0:9", "yolo-aggregation.default:7363")
