"""The per-user directory is this user's alone."""

import stat

import pytest

from cross_silo.errors import UserError
from cross_silo.launch.user_dir import VARIABLE, user_dir


def test_it_is_made_for_this_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "user"))
    made = user_dir("redis", "127.0.0.1-1")
    assert made == tmp_path / "user" / "redis" / "127.0.0.1-1"
    assert stat.S_IMODE((tmp_path / "user").stat().st_mode) == 0o700
    assert user_dir("redis", "127.0.0.1-1") == made


def test_without_a_setting_it_is_in_the_temporary_directory(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert user_dir().parent == tmp_path


def test_one_that_others_may_write_or_a_link_is_refused(monkeypatch, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "link"):
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        with pytest.raises(UserError, match=f"{name} is not a directory that only this user writes"):
            user_dir()


def test_one_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.raises(UserError, match=f"file/below.*{VARIABLE}"):
        user_dir()
