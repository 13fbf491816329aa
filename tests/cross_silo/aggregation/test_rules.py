"""Which rule the settings name."""

import pytest

from cross_silo.aggregation.averaging import WeightedSum
from cross_silo.aggregation.clipped_mean import ClippedSum
from cross_silo.aggregation.median import Median
from cross_silo.aggregation.rules import make_sum
from cross_silo.aggregation.trimmed_mean import TrimmedMean
from cross_silo.config.aggregation import RULES, Aggregation

MADE = {
    "mean": ({}, WeightedSum),
    "clipped_mean": ({"clip_norm": 1.0}, ClippedSum),
    "median": ({}, Median),
    "trimmed_mean": ({"trim_share": 0.2}, TrimmedMean),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_made(rule):
    settings, expected = MADE[rule]
    assert type(make_sum(Aggregation(rule=rule, **settings), dict, dict)) is expected
