"""MistNet's keys: contradictions are refused by key, both ways of choosing the algorithm are one."""

import pytest
import yaml

from cross_silo.config.federated import load_federated
from cross_silo.config.mistnet import MistNet, require_algorithm
from cross_silo.errors import UserError


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0, expected null (no noise) or a number more than 0"),
        ({"epsilon": -1.0}, "epsilon is -1.0"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"epsilon": float("inf")}, "epsilon is inf, expected null (no noise)"),
        ({"epsilon": 1e-9}, "epsilon is 1e-09"),
        ({"label_epsilon": 0.0}, "label_epsilon is 0.0"),
        ({"epsilon_convention": "bit"}, "epsilon_convention is 'bit', expected one of half, per_bit"),
        ({"thresholds": "median"}, "thresholds is 'median', expected one of zero, calibrated"),
        ({"thresholds": "calibrated"}, "thresholds is calibrated without calibration_images"),
        ({"calibration_images": "public"}, "calibration_images is 'public', but only thresholds calibrated reads it"),
        ({"box_jitter": 0.5}, "box_jitter is 0.5, expected 0 to below 0.5"),
        ({"box_jitter": float("nan")}, "box_jitter is nan"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"deadline": 0.0}, "deadline is 0.0"),
        ({"evaluate_on": "noisy"}, "evaluate_on is noisy with epsilon null"),
        ({"evaluate_on": "none", "epsilon": 1.0}, "evaluate_on is 'none'"),
    ],
)
def test_what_is_refused(settings, problem):
    with pytest.raises(ValueError) as error:
        MistNet(cut_layer=4, **settings)
    assert str(error.value).startswith(problem)


def load(tmp_path, **content):
    path = tmp_path / "federated.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_federated(path)


@pytest.mark.parametrize("chosen", [{"algorithm": "mistnet"}, {"aggregation": {"aggregation_type": "MistNet"}}])
def test_both_ways_of_choosing_it(tmp_path, chosen):
    config = load(tmp_path, mistnet={"cut_layer": 4, "epsilon": 2, "epochs": 7}, **chosen)
    assert config.algorithm == "mistnet"
    assert (config.mistnet.cut_layer, config.mistnet.epsilon) == (4, 2.0)
    assert config.fl_iteration_num == 7


def test_a_name_is_a_cut_too(tmp_path):
    assert load(tmp_path, algorithm="mistnet", mistnet={"cut_layer": "layer1"}).mistnet.cut_layer == "layer1"


def test_a_stop_condition_in_rounds_is_one_in_epochs(tmp_path):
    stop = {"metric": "rounds", "operator": ">=", "threshold": 3}
    config = load(tmp_path, algorithm="mistnet", mistnet={"cut_layer": 4, "epochs": 7}, stop_condition=stop)
    assert config.fl_iteration_num == 3


def test_the_default_is_fedavg(tmp_path):
    assert load(tmp_path).algorithm == "fedavg"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"algorithm": "fednova"}, "algorithm is 'fednova', expected one of fedavg, mistnet"),
        (
            {"algorithm": "fedavg", "aggregation": {"aggregation_type": "MistNet"}},
            "algorithm is fedavg, but aggregation.aggregation_type is MistNet; expected the same",
        ),
        ({"algorithm": "mistnet"}, "mistnet.cut_layer is missing"),
        ({"mistnet": {"epsilon": 1}}, "mistnet is set, but only algorithm mistnet reads it"),
        ({"transmitter": {"channel": "s3", "agg_data_path": "s3://b/p"}}, "transmitter is set, but only"),
        ({"algorithm": "mistnet", "mistnet": {"cut_layer": 4, "min_silos": 3}}, "mistnet.min_silos is 3, but the job"),
        ({"algorithm": "mistnet", "mistnet": {"cut_layer": 4, "epsilon": 0}}, "mistnet.epsilon is 0.0"),
        (
            {"algorithm": "mistnet", "mistnet": {"cut_layer": 4}, "aggregation": {"max_update_norm": 1}},
            "aggregation has a rule or a limit, but algorithm mistnet has no updates",
        ),
    ],
)
def test_contradictions_in_the_file(tmp_path, content, problem):
    with pytest.raises(UserError) as error:
        load(tmp_path, **content)
    assert problem in str(error.value)


def test_the_flag_must_agree():
    require_algorithm("", "mistnet", "job.yaml")
    require_algorithm("mistnet", "mistnet", "job.yaml")
    with pytest.raises(UserError, match="--algorithm is mistnet, but job.yaml says fedavg"):
        require_algorithm("mistnet", "fedavg", "job.yaml")
