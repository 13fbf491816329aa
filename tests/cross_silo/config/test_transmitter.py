"""The way of features: a channel and its prefix go together."""

import pytest

from cross_silo.config.transmitter import Transmitter


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"channel": "ws"}, "channel is 'ws', expected one of http, s3, file"),
        ({"agg_data_path": "s3://b/p"}, "agg_data_path is 's3://b/p', but channel http reads none"),
        ({"remove_at_end": True}, "remove_at_end is true, but channel http leaves no objects"),
        ({"channel": "s3"}, "agg_data_path is '', expected s3://… with channel s3"),
        ({"channel": "s3", "agg_data_path": "file:///d"}, "agg_data_path is 'file:///d', expected s3://…"),
        ({"channel": "file", "agg_data_path": "file://"}, "agg_data_path is 'file://'"),
    ],
)
def test_what_is_refused(settings, problem):
    with pytest.raises(ValueError) as error:
        Transmitter(**settings)
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize("path", ["s3://bucket/prefix", "file:///srv/features"])
def test_objects(path):
    channel = path.partition(":")[0]
    assert Transmitter(channel, path, remove_at_end=True).agg_data_path == path
