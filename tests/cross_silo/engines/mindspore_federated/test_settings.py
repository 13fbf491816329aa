"""The engine's own YAML, made of the job's."""

from pathlib import Path

from cross_silo.config.federated import FederatedConfig, Round
from cross_silo.engines.mindspore_federated.settings import engine_settings


def test_the_jobs_settings_as_the_engine_has_them():
    config = FederatedConfig(
        fl_name="shapes",
        fl_iteration_num=3,
        engine="mindspore_federated",
        round=Round(start_fl_job_threshold=2, start_fl_job_time_window=30_000),
    )
    settings = engine_settings(config, Path("/run/server_0"))
    assert settings["round"] == {
        "start_fl_job_threshold": 2,
        "update_model_ratio": 1.0,
        "start_fl_job_time_window": 30_000,
        "update_model_time_window": 600_000,
        "global_iteration_time_window": 3_600_000,
    }
    assert settings["aggregation"] == {"aggregation_type": "FedAvg"}
    assert settings["fl_iteration_num"] > 1_000_000, "failed iterations count there, too"
    assert settings["summary"]["metrics_file"] == "/run/server_0/engine_metrics.json"
    assert "data_rate_dir" not in settings["summary"], "its thread holds up the end by a minute"
    assert settings["enable_ssl"] is False and "encrypt" not in settings and "compression" not in settings
