"""Header values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_any_reason_survives_in_one_line_of_ascii(reason):
    quoted = quote(reason)
    assert quoted.isascii() and quoted.isprintable()
    assert unquote(quoted) == reason


@given(st.one_of(st.text(max_size=30), st.floats().map(str)))
def test_any_text_is_a_number_within_the_range_or_none(value):
    found = number(value, 60)
    assert found is None or 0 <= found <= 60
