"""Rules and limits of an aggregation: contradictions are refused by key."""

import pytest
import yaml

from cross_silo.config.aggregation import Aggregation
from cross_silo.config.federated import load_federated
from cross_silo.errors import UserError


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"aggregation_type": "Scaffold"}, "aggregation_type is 'Scaffold', expected FedAvg or MistNet"),
        ({"rule": "krum"}, "rule is 'krum', expected one of mean, median, trimmed_mean, clipped_mean"),
        ({"rule": "trimmed_mean"}, "trim_share is 0.0 with rule trimmed_mean, expected more than 0 and less than 0.5"),
        ({"rule": "trimmed_mean", "trim_share": 0.5}, "trim_share is 0.5 with rule trimmed_mean"),
        ({"trim_share": 0.2}, "trim_share is 0.2, but only rule trimmed_mean reads it; rule is 'mean'"),
        ({"rule": "clipped_mean"}, "clip_norm is 0.0 with rule clipped_mean, expected more than 0"),
        ({"rule": "clipped_mean", "clip_norm": float("inf")}, "clip_norm is inf"),
        ({"rule": "median", "clip_norm": 1.0}, "clip_norm is 1.0, but only rule clipped_mean reads it"),
        ({"max_update_norm": -1.0}, "max_update_norm is -1.0, expected 0 or more"),
        ({"max_update_norm": float("nan")}, "max_update_norm is nan"),
        ({"max_update_norm_factor": 1.0}, "max_update_norm_factor is 1.0: every second update would be refused"),
    ],
)
def test_what_is_refused(settings, problem):
    with pytest.raises(ValueError) as error:
        Aggregation(**settings)
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize(
    ("settings", "measures"),
    [
        ({}, False),
        ({"rule": "median"}, False),
        ({"rule": "clipped_mean", "clip_norm": 2.0}, True),
        ({"max_update_norm": 5.0}, True),
        ({"max_update_norm_factor": 4.0}, True),
    ],
)
def test_norms_are_measured_where_something_reads_them(settings, measures):
    assert Aggregation(**settings).measures_norms == measures


def load(tmp_path, **content):
    path = tmp_path / "federated.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_federated(path)


def test_keys_of_the_yaml(tmp_path):
    round = {"start_fl_job_threshold": 5, "min_clients": 3}
    config = load(tmp_path, round=round, aggregation={"rule": "trimmed_mean", "trim_share": 0.2})
    assert (config.aggregation.rule, config.aggregation.trim_share) == ("trimmed_mean", 0.2)


@pytest.mark.parametrize("round", [{}, {"start_fl_job_threshold": 5, "min_clients": 2}])
@pytest.mark.parametrize("rule", [{"rule": "median"}, {"rule": "trimmed_mean", "trim_share": 0.2}])
def test_a_median_of_two_is_refused(tmp_path, round, rule):
    with pytest.raises(UserError, match=rf"aggregation.rule is {rule['rule']}, but a round may close with 2 updates"):
        load(tmp_path, round=round, aggregation=rule)
