"""Endpoint and keys from the environment and from a Secret."""

import base64

import pytest

from cross_silo.errors import UserError
from cross_silo.objects import Credentials

ENVIRONMENT = {"S3_ENDPOINT_URL": "http://h:9000", "ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "hidden"}


def secret(annotations, **entries):
    return {"metadata": {"name": "my", "annotations": annotations}, **entries}


def test_environment():
    found = Credentials.from_env(ENVIRONMENT)
    assert found == Credentials("http://h:9000", "id", "hidden")
    assert found.environment() == ENVIRONMENT
    assert "hidden" not in repr(found) and "id" not in repr(found).replace("Credentials", "")


def test_missing_variables():
    with pytest.raises(UserError, match="variables S3_ENDPOINT_URL, SECRET_ACCESS_KEY, which are not set"):
        Credentials.from_env({"ACCESS_KEY_ID": "id"})


@pytest.mark.parametrize(
    "https, scheme", [({}, "https"), ({"s3-usehttps": "1"}, "https"), ({"s3-usehttps": "0"}, "http")]
)
def test_secret(https, scheme):
    annotations = {"s3-endpoint": "h:9000", **https}
    plain = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "hidden"}
    expected = Credentials(f"{scheme}://h:9000", "id", "hidden")
    assert Credentials.from_secret(secret(annotations, stringData=plain)) == expected
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
    assert Credentials.from_secret(secret(annotations, data=encoded)) == expected


@pytest.mark.parametrize(
    "found, reason",
    [
        (secret({}), "Secret/my: metadata.annotations.s3-endpoint.: empty endpoint in secret"),
        (
            secret({"s3-endpoint": "h"}, stringData={"ACCESS_KEY_ID": "a"}),
            "stringData.SECRET_ACCESS_KEY: Required value",
        ),
        (secret({"s3-endpoint": "h"}, data={"ACCESS_KEY_ID": "not base64"}), "data.ACCESS_KEY_ID: Invalid value"),
        (
            secret({"s3-endpoint": "h"}, data={"ACCESS_KEY_ID": base64.b64encode(b"hidden\n").decode()}),
            "data.ACCESS_KEY_ID: Invalid value: a space or a line's end",
        ),
        (secret({"s3-endpoint": "http://h:9000"}), "s3-endpoint.: Invalid value: 'http://h:9000': expected host"),
    ],
)
def test_wrong_secret(found, reason):
    with pytest.raises(UserError, match=reason) as caught:
        Credentials.from_secret(found)
    assert "not base64" not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_endpoint_without_scheme():
    with pytest.raises(UserError, match="S3_ENDPOINT_URL is 'h:9000', expected http"):
        Credentials("h:9000", "a", "b")
