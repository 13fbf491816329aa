"""Typed settings from YAML: what is refused, and in which words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Tuple, Union

import pytest

from cross_silo.config.schema import build, read_yaml
from cross_silo.errors import UserError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    sizes: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    silos: Union[int, Tuple[str, ...]] = 0
    note: Optional[str] = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}, expected at least 1")


def test_values_reach_their_fields_with_their_types():
    values = {"name": "a", "silos": ["x", "y"], "note": None, "inner": {"rate": 1, "sizes": [8, 16]}}
    outer = build(Outer, values, "f.yaml")
    assert outer == Outer("a", 1, ("x", "y"), None, Inner(1.0, (8, 16)))
    assert isinstance(outer.inner.rate, float)


def test_exponents_without_a_dot_are_numbers(tmp_path):
    file = tmp_path / "f.yaml"
    file.write_text("name: a\ninner: {rate: 1e-4}\n")
    assert build(Outer, read_yaml(file), "f.yaml").inner.rate == 1e-4


@pytest.mark.parametrize(
    "values, message",
    [
        ({"name": "a", "cuont": 2}, "f.yaml: unknown key 'cuont'; did you mean 'count'?"),
        ({"name": "a", "inner": {"rato": 2}}, "f.yaml: unknown key 'inner.rato'; did you mean 'inner.rate'?"),
        ({"name": "a", "zzz": 2}, "f.yaml: unknown key 'zzz'"),
        ({}, "f.yaml: required key 'name' is missing"),
        ({"name": 3}, "f.yaml: name is 3 (int), expected text"),
        ({"name": "a", "count": True}, "f.yaml: count is True (bool), expected a whole number"),
        ({"name": "a", "count": "3"}, "f.yaml: count is '3' (str), expected a whole number"),
        ({"name": "a", "inner": 4}, "f.yaml: inner is 4 (int), expected a mapping"),
        ({"name": "a", "inner": {"sizes": 4}}, "f.yaml: inner.sizes is 4 (int), expected a list"),
        ({"name": "a", "inner": {"sizes": [4, "b"]}}, "f.yaml: inner.sizes[1] is 'b' (str), expected a whole number"),
        ({"name": "a", "count": 0}, "f.yaml: count is 0, expected at least 1"),
    ],
)
def test_a_wrong_value_is_named(values, message):
    with pytest.raises(UserError) as error:
        build(Outer, values, "f.yaml")
    assert str(error.value) == message


def test_a_leaf_overrides_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("name: base\ncount: 2\ninner: {rate: 0.1, sizes: [1]}\n")
    (tmp_path / "leaf.yaml").write_text("base: base.yaml\ncount: 3\ninner: {rate: 0.2}\n")
    values = read_yaml(tmp_path / "leaf.yaml")
    assert values == {"name": "base", "count": 3, "inner": {"rate": 0.2, "sizes": [1]}}


@pytest.mark.parametrize(
    "text, part",
    [("base: f.yaml\n", "leads back"), ("a: [1\n", "not valid YAML"), ("- 1\n", "expected a mapping")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, part):
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=part):
        read_yaml(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.yaml: No such file"):
        read_yaml(tmp_path / "nowhere.yaml")
