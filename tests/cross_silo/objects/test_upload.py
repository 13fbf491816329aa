"""Files of this machine, by path and by file:// URL."""

import hashlib

import pytest

from cross_silo.errors import UserError
from cross_silo.objects import Entry, Stored, fetch, listing, put, remove


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_put_fetch_list_remove(tmp_path, form):
    source = tmp_path / "a"
    source.write_bytes(b"content")
    target = tmp_path / "deep" / "b"
    url = form.format(target)
    assert put(source, url) == Stored(7, hashlib.sha256(b"content").hexdigest())
    assert fetch(url, tmp_path / "c").read_bytes() == b"content"
    assert fetch(url, target) == target
    assert listing(form.format(tmp_path / "deep")) == [Entry(str(target), 7)]
    remove(url)
    remove(url)
    assert list((tmp_path / "deep").iterdir()) == []


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="none: No such file or directory"):
        fetch(str(tmp_path / "none"), tmp_path / "b")
    with pytest.raises(UserError, match="none: No such file or directory"):
        put(tmp_path / "none", str(tmp_path / "b"))
    assert listing(str(tmp_path / "none")) == []


def test_broken_put_leaves_what_was_there(tmp_path, monkeypatch):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    monkeypatch.setattr("shutil.copyfileobj", broken)
    with pytest.raises(UserError, match="No space left"):
        put(source, str(target))
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_place_that_cannot_be_written(tmp_path):
    source = tmp_path / "a"
    source.write_bytes(b"x")
    for call in (fetch, put):
        with pytest.raises(UserError, match="Not a directory|File exists"):
            call(str(source), str(source / "below"))
    with pytest.raises(UserError, match="Is a directory"):
        remove(str(tmp_path))


def broken(*_):
    raise OSError(28, "No space left on device")
