"""Secrets on disk: their modes from the first moment, and what is refused."""

import os
import stat

import pytest

from cross_silo.errors import UserError
from cross_silo.security.secret_file import check_secret, write_secret


def test_nobody_else_can_read_it_whatever_the_umask(tmp_path):
    path = tmp_path / "secret"
    before = os.umask(0)
    try:
        write_secret(path, b"1")
        write_secret(path, b"2")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    check_secret(path, "secret")


def test_nothing_is_left_where_it_cannot_be_written(tmp_path):
    with pytest.raises(OSError):
        write_secret(tmp_path / "gone" / "secret", b"1")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        write_secret(tmp_path / "directory", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


@pytest.mark.parametrize("mode", [0o604, 0o606, 0o620, 0o777])
def test_what_others_can_read_or_write_is_refused(tmp_path, mode):
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(mode)
    with pytest.raises(UserError, match=f"key .*secret has mode {mode:o}, others could read it; expected 600"):
        check_secret(path, "key")


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="key .*secret: No such file"):
        check_secret(tmp_path / "secret", "key")
