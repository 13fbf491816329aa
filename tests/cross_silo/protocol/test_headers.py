"""Header values."""

import pytest

from cross_silo.protocol.headers import number, quote, unquote


def test_reasons_survive_a_header():
    reason = "round 3 attempt 1 failed: Größe\r\nX-Evil: 1 – 100 %"
    assert quote(reason).isascii()
    assert not set("\r\n") & set(quote(reason))
    assert unquote(quote(reason)) == reason
    assert unquote(None) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2.5", 2.5), ("-1", 0), ("1e9", 60), ("inf", 60), ("nan", None), ("x", None), ("", None), (None, None)],
)
def test_numbers_are_held_to_their_range(value, expected):
    assert number(value, 60) == expected
