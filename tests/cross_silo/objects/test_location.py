"""URLs: which are read how, and what is shown of them."""

import pytest

from cross_silo.errors import UserError
from cross_silo.objects import is_remote, shown
from cross_silo.objects.location import Location, locate


@pytest.mark.parametrize(
    "url, expected",
    [
        ("/data/1", Location("file", "/data/1", key="/data/1")),
        ("data/1", Location("file", "data/1", key="data/1")),
        ("file:///data/a%20b", Location("file", "file:///data/a%20b", key="/data/a b")),
        ("s3://bucket/a/b c?d#e", Location("s3", "s3://bucket/a/b c?d#e", "bucket", "a/b c?d#e")),
        ("s3://bucket", Location("s3", "s3://bucket", "bucket", "")),
        ("https://host/x?y=1", Location("http", "https://host/x?y=1")),
    ],
)
def test_locate(url, expected):
    assert locate(url) == expected
    assert is_remote(url) == (expected.kind != "file")


@pytest.mark.parametrize(
    "url, reason",
    [
        ("", "has no scheme that is known"),
        ("gs://bucket/x", "'gs://bucket/x' has no scheme that is known"),
        ("s3:///x", "names no bucket"),
        ("https:///x", "names no host"),
        ("file://host/x", "is not of this machine"),
        ("https://user:secret@host/x", "https://host/x holds a user's name or password"),
        ("s3://key:secret@bucket/x", "s3://bucket/x holds a user's name or password"),
    ],
)
def test_refused(url, reason):
    with pytest.raises(UserError, match=reason) as caught:
        locate(url)
    assert "secret" not in str(caught.value)


def test_shown():
    assert shown("https://u:p@h/x?sig=1#f") == "https://h/x?..."
    assert shown("s3://b/k?v") == "s3://b/k?v"
    assert shown("/a b") == "/a b"
