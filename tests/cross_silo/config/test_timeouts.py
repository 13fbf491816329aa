"""The time-outs that a job has."""

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import MistNet
from cross_silo.config.timeouts import shown, timeouts


def test_of_a_job_of_rounds():
    assert list(timeouts(FederatedConfig())) == [
        "round.start_fl_job_time_window",
        "round.update_model_time_window",
        "round.global_iteration_time_window",
        "lease",
        "evaluation.deadline",
    ]


def test_of_a_mistnet_job():
    config = FederatedConfig(algorithm="mistnet", mistnet=MistNet(cut_layer=4, deadline=90.0))
    assert shown(config) == "time-outs: mistnet.deadline 90 s, lease 15 s"
