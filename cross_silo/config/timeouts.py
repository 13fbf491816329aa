"""The five time-outs of a job, all of them keys of the federated YAML."""

from __future__ import annotations

from typing import Dict

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import MISTNET

WINDOWS = ("start_fl_job_time_window", "update_model_time_window", "global_iteration_time_window")
"""Keys of the section ``round``, in milliseconds."""


def timeouts(config: FederatedConfig) -> Dict[str, float]:
    """Return the job's time-outs in seconds, by their keys; a MistNet job has no rounds, and two of them."""
    if config.algorithm == MISTNET:
        return {"mistnet.deadline": config.mistnet.deadline, "lease": config.lease}
    windows = {f"round.{key}": getattr(config.round, key) / 1000 for key in WINDOWS}
    return {**windows, "lease": config.lease, "evaluation.deadline": float(config.evaluation.deadline)}


def shown(config: FederatedConfig) -> str:
    """Return the time-outs in one line."""
    return "time-outs: " + ", ".join(f"{key} {seconds:g} s" for key, seconds in timeouts(config).items())
