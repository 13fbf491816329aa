"""A silo's secret: its own, private, and the same words whenever asked again."""

import hashlib
import os
import stat

import numpy as np
import pytest

from cross_silo.errors import UserError
from cross_silo.mistnet.secret import Secret, open_secret

KEY = bytes(range(32))


def test_words_are_shake_256():
    place = hashlib.sha256(b"bits").digest() + hashlib.sha256(b"image").digest()
    expected = np.frombuffer(hashlib.shake_256(KEY + place).digest(40), "<u4")
    np.testing.assert_array_equal(Secret(KEY).words(b"bits", b"image", 10), expected)


def test_words_differ_by_secret_purpose_and_item():
    drawn = [
        Secret(key).words(purpose, item, 4).tobytes()
        for key, purpose, item in (
            (KEY, b"a", b"bc"),
            (KEY, b"ab", b"c"),
            (KEY, b"b", b"bc"),
            (KEY, b"a", b"bd"),
            (KEY[::-1], b"a", b"bc"),
        )
    ]
    assert len(set(drawn)) == 5


def test_words_are_uniform():
    words = Secret(KEY).words(b"bits", b"image", 200_000)
    counts = np.bincount(words >> 28, minlength=16)  # by their highest 4 bits
    chi_square = ((counts - 12_500) ** 2 / 12_500).sum()
    assert chi_square < 37.7  # 99.9 % of 15 degrees of freedom


def test_a_name_tells_nothing_without_the_secret():
    assert Secret(KEY).name(b"7") == Secret(KEY).name(b"7") != Secret(KEY[::-1]).name(b"7")
    assert len(Secret(KEY).name(b"7")) == 64
    assert "30" not in repr(Secret(b"0" * 32))


def test_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "worker_0" / "secret.key"
    first = open_secret(path)
    assert open_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_size == 32
    assert open_secret(tmp_path / "other.key") != first


def test_one_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "secret.key"
    open_secret(path)
    os.chmod(path, 0o644)
    with pytest.raises(UserError, match="mode 644, others could read it"):
        open_secret(path)


def test_one_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "secret.key"
    open_secret(path)
    os.truncate(path, 31)
    with pytest.raises(UserError, match="has 31 bytes, expected 32"):
        open_secret(path)
