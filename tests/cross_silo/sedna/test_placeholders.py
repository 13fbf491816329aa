"""$NAME in manifests: filled, or told where it stands; a program's and a secret's own $ stay."""

import pytest

from cross_silo.errors import UserError
from cross_silo.sedna.placeholders import fill, parse_assignments


def test_filled_everywhere_and_missing_ones_told_by_path():
    value = {"spec": {"nodeName": "$NODE", "url": "/data/${SITE}/$NODE", "list": [{"a": "$OTHER"}], "n": 4}}
    filled, missing = fill(value, {"NODE": "edge1", "SITE": "north"})
    assert filled == {"spec": {"nodeName": "edge1", "url": "/data/north/edge1", "list": [{"a": "$OTHER"}], "n": 4}}
    assert missing == [("spec.list[0].a", "OTHER")]


def test_programs_and_secrets_keep_theirs():
    value = {
        "args": ["$HOME", "-i", "1"],
        "command": ["sh", "-c", "echo $PATH"],
        "stringData": {"SECRET_ACCESS_KEY": "a$b"},
        "metadata": {"annotations": {"note": "$x"}},
        "value": "$(OTHER) costs 5$",
    }
    assert fill(value, {}) == (value, [])


def test_a_value_is_not_filled_again():
    assert fill("$A", {"A": "$B", "B": "c"}) == ("$B", [])


def test_assignments():
    assert parse_assignments("--set", ["A=1", "B=x=y", "A=1", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    with pytest.raises(UserError, match="--set is 'A', expected NAME=value"):
        parse_assignments("--set", ["A"])
    with pytest.raises(UserError, match="--set gives A twice: '1' and '2'"):
        parse_assignments("--set", ["A=1", "A=2"])
