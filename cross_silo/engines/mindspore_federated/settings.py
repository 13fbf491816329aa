"""The job's settings as the wheel's engine has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from cross_silo.config.federated import FederatedConfig

ITERATIONS = 2**31 - 2
"""The engine counts failed iterations, too, so it is never the one that ends the job."""


def engine_settings(config: FederatedConfig, role_dir: Path) -> Dict[str, Any]:
    """Return the engine's own YAML for a role that writes into ``role_dir``.

    What it does not have is left at the engine's default: no encryption, no compression, plain HTTP.
    ``summary.data_rate_dir`` must not be there: its thread holds up the engine's end by a minute.
    """
    windows = ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window")
    return {
        "fl_name": config.fl_name,
        "fl_iteration_num": ITERATIONS,
        "server_mode": config.server_mode,
        "enable_ssl": False,
        "aggregation": {"aggregation_type": config.aggregation.aggregation_type},
        "distributed_cache": {"type": "redis", "address": config.distributed_cache.address},
        "round": {
            "start_fl_job_threshold": config.round.start_fl_job_threshold,
            "update_model_ratio": 1.0,
            **{name: getattr(config.round, name) for name in windows},
        },
        "summary": {
            "metrics_file": str(role_dir / "engine_metrics.json"),
            "failure_event_file": str(role_dir / "engine_failures.txt"),
        },
    }
