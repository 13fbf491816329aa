"""Stop conditions: literal comparisons, joined by and/or; what can never be met is refused."""

import dataclasses
import itertools
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cross_silo.config.federated import Evaluation, FederatedConfig
from cross_silo.config.schema import build
from cross_silo.config.stop_condition import COMPARISONS, Progress, StopCondition
from cross_silo.config.stop_reach import check_reachable, surely_met_in
from cross_silo.errors import UserError

EVALUATION = {"annotations": "val.json", "image_dir": "images"}


def load(condition, rounds=30, **more):
    content = {
        "fl_iteration_num": rounds,
        "evaluation": EVALUATION,
        "stop_condition": yaml.safe_load(condition),
        **more,
    }
    return build(FederatedConfig, content, "job.yaml")


def comparison(metric, operator, threshold, **more):
    return StopCondition(metric=metric, operator=operator, threshold=threshold, **more)


SEED = """
operator: or
conditions:
  - {operator: ">", threshold: 20, metric: rounds}
  - {operator: ">", threshold: 0.95, metric: targetAccuracy, of: map50}
  - {operator: "<", threshold: 0.03, metric: deltaLoss}
"""


def test_the_form_of_the_sedna_proposal():
    config = load(SEED)
    condition = config.stop_condition
    assert str(condition) == "rounds > 20 or map50 > 0.95 or delta_loss < 0.03 for 3 rounds running"
    assert config.fl_iteration_num == 21  # literally
    assert condition.met(Progress(20)) == ""
    assert condition.met(Progress(21)) == "rounds > 20 (21)"
    assert condition.met(Progress(3, {"AP50": 0.96, "AP": 0.5})) == "map50 > 0.95 (0.96)"
    assert condition.met(Progress(3, {"AP50": 0.95, "AP": 0.99})) == ""


def test_any_and_all_contain_each_other():
    condition = load(
        """
        any:
          - {metric: wall_time, operator: ">=", threshold: 60}
          - all:
              - {metric: rounds, operator: ">=", threshold: 5}
              - {metric: target_accuracy, of: map, operator: ">=", threshold: 0.5}
        """
    ).stop_condition
    assert str(condition) == "wall_time >= 60 s or (rounds >= 5 and map >= 0.5)"
    assert condition.met(Progress(5)) == ""  # an accuracy that is not known is not reached
    assert condition.met(Progress(4, {"AP": 0.5})) == ""
    assert condition.met(Progress(5, {"AP": 0.5})) == "rounds >= 5 (5) and map >= 0.5 (0.5)"
    assert condition.met(Progress(1, seconds=60)) == "wall_time >= 60 s (60)"


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        (">", False, False, True),
        (">=", False, True, True),
        ("<", True, False, False),
        ("<=", True, True, False),
        ("=", False, True, False),
    ],
)
def test_operators_are_literal(operator, below, at, above):
    condition = comparison("rounds", operator, 7)
    assert [bool(condition.met(Progress(n))) for n in (6, 7, 8)] == [below, at, above]


def test_the_loss_must_settle_for_some_rounds_running():
    condition = comparison("delta_loss", "<", 0.1, patience=2, min_rounds=4)
    assert not condition.met(Progress(3, changes=(0.05, 0.05)))
    assert condition.met(Progress(4, changes=(0.5, 0.05, 0.04)))
    assert not condition.met(Progress(4, changes=(0.05, 0.05, 0.1)))
    assert not condition.met(Progress(4, changes=(0.05, None, 0.05)))
    assert not condition.met(Progress(9, changes=(0.05,)))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{metric: rounds, operator: '>=', threshold: 31}", "rounds >= 31 is never met within the 30 rounds"),
        ("{metric: rounds, operator: '=', threshold: 4.5}", "rounds = 4.5 is never met"),
        ("{metric: rounds, operator: '<', threshold: 1}", "rounds < 1 is never met"),
        ("{metric: wall_time, operator: '<', threshold: 0}", "wall_time < 0 s is never met"),
        ("{metric: target_accuracy, of: map, operator: '>', threshold: 1}", "map > 1 is never met"),
        ("{metric: delta_loss, operator: '<', threshold: 1, min_rounds: 31}", "delta_loss < 1 .* is never met"),
        ("{metric: delta_loss, operator: '<', threshold: 1, patience: 30}", "delta_loss < 1 .* is never met"),
        (
            "all: [{metric: rounds, operator: '>', threshold: 9}, {metric: rounds, operator: '<', threshold: 10}]",
            "rounds > 9 and rounds < 10 is never met",
        ),
        (
            "any: [{metric: rounds, operator: '>=', threshold: 5}, {metric: rounds, operator: '>=', threshold: 8}]",
            "rounds >= 8 is never met within the 5 rounds",
        ),
    ],
)
def test_what_can_never_be_met_is_refused(condition, message):
    text = condition if condition.startswith("{") else "{" + condition + "}"
    with pytest.raises(UserError, match=f"job.yaml: stop_condition: {message}"):
        load(text)


def test_an_accuracy_that_nobody_measures_is_refused():
    with pytest.raises(UserError, match="map50 > 0.9 is never known: evaluation.annotations is not set"):
        load("{metric: target_accuracy, of: map50, operator: '>', threshold: 0.9}", evaluation={})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{metric: accuracy, operator: '>', threshold: 1}", "stop_condition.metric is 'accuracy', expected rounds, "),
        ("{metric: rounds, operator: over, threshold: 1}", "operator is 'over', expected one of >, >=, <, <=, ="),
        ("{metric: rounds, operator: '>'}", "threshold of rounds is None, expected a number"),
        ("{metric: wall_time, operator: '>', threshold: .inf}", "threshold of wall_time is inf"),
        ("{metric: rounds, operator: '>', threshold: 1, of: map}", "of is 'map', expected nothing with rounds"),
        ("{metric: rounds, operator: '>', threshold: 1, patience: 2}", "patience: only delta_loss has it"),
        ("{metric: target_accuracy, operator: '>', threshold: 0.5}", "of is '', expected map50 or map"),
        ("{metric: target_accuracy, of: map, operator: '>', threshold: 95}", "threshold of map is 95, expected 0 to 1"),
        ("{metric: delta_loss, operator: '<', threshold: 1, patience: 0}", "patience is 0"),
        ("{operator: or, any: [{metric: rounds, operator: '>', threshold: 1}]}", "neither metric nor conditions"),
        ("{operator: xor, conditions: [{metric: rounds, operator: '>', threshold: 1}]}", "expected or, and"),
        ("{any: [{}]}", "any has an empty condition"),
        ("{any: [{metric: rounds, operator: '>', limit: 1}]}", r"unknown key 'stop_condition.any\[0\].limit'"),
        ("{threshold: 3}", "threshold is set without metric"),
    ],
)
def test_mistakes_are_named(condition, message):
    with pytest.raises(UserError, match=message):
        load(condition)


def test_settings_come_back_from_json():
    config = load(SEED)
    assert build(FederatedConfig, json.loads(json.dumps(dataclasses.asdict(config))), "settings") == config
    assert FederatedConfig().stop_condition.is_empty
    assert FederatedConfig().fl_iteration_num == 10


def test_the_best_model_is_told_by_the_metric_with_a_target():
    assert load(SEED).stop_condition.accuracy == "AP50"
    assert comparison("target_accuracy", ">", 0.5, of="map").accuracy == "AP"
    assert comparison("rounds", ">", 5).accuracy == "AP50"


LAST = 6
LEAVES = st.builds(
    comparison,
    st.just("rounds"),
    st.sampled_from(list(COMPARISONS)),
    st.integers(-1, LAST + 2),
) | st.builds(
    comparison,
    st.just("target_accuracy"),
    st.sampled_from(list(COMPARISONS)),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    of=st.sampled_from(["map", "map50"]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda join, children: StopCondition(**{join: tuple(children)}),
        st.sampled_from(["any", "all"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
GRID = [0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 1.0]
EVERYTHING = [
    Progress(n, {"AP": ap, "AP50": ap50}) for n, ap, ap50 in itertools.product(range(1, LAST + 1), GRID, GRID)
]


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_reachability_agrees_with_trying_everything(condition):
    possible = all(any(node.met(progress) for progress in EVERYTHING) for node in condition.nodes())
    if possible:
        check_reachable(condition, LAST, True)
    else:
        with pytest.raises(ValueError, match="never met"):
            check_reachable(condition, LAST, True)
    by_rounds_alone = [n for n in range(1, LAST + 1) if condition.met(Progress(n))]
    assert surely_met_in(condition, LAST) == (by_rounds_alone[0] if by_rounds_alone else None)


def test_more_comparisons_than_anybody_means_are_refused():
    many = StopCondition(any=tuple(comparison("wall_time", ">", n) for n in range(17)))
    with pytest.raises(ValueError, match="stop_condition has 17 comparisons, expected at most 16"):
        FederatedConfig(stop_condition=many, evaluation=Evaluation(**EVALUATION))
