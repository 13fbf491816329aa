"""The aggregation algorithms that a Sedna job may name: which are planned, which run, what each needs."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from cross_silo.errors import UserError
from cross_silo.sedna.environment import S3, Problem, Settings

FEDAVG, MISTNET = "fedavg", "mistnet"
RUNNABLE = (FEDAVG,)
"""Those that can be started."""
PLANNED = (FEDAVG, MISTNET)
"""Those for which a plan is made."""
NOT_THERE_YET = ("fedprox", "scaffold", "fednova", "adaptive_sync", "adaptive_freezing")
CUT_LAYERS = range(1, 5)
"""Where YOLOv5 can be cut: its neck takes the outputs of layers 4 and 6 again, and layer 0 sees the image."""


def algorithm_of(settings: Settings) -> str:
    """Return the job's algorithm; FedAvg where nothing is said."""
    return settings.aggregation_algorithm or FEDAVG


def check_settings(settings: Settings) -> List[Problem]:
    """Return what in ``settings`` the algorithm refuses."""
    algorithm = algorithm_of(settings)
    if algorithm in NOT_THERE_YET:
        return [("aggregation_algorithm", f"{algorithm} is not there yet; expected one of {', '.join(PLANNED)}")]
    if algorithm not in PLANNED:
        return [("aggregation_algorithm", f"can't find aggregation {algorithm}; expected one of {', '.join(PLANNED)}")]
    problems: List[Problem] = []
    if algorithm != MISTNET and settings.transmitter == S3:
        reason = "s3 carries MistNet's features only; weights go to the server: expected ws (--transmitter ws)"
        problems.append(("TRANSMITTER", reason))
    if settings.cut_layer is not None and settings.cut_layer not in CUT_LAYERS:
        valid = f"{CUT_LAYERS[0]} to {CUT_LAYERS[-1]}"
        problems.append(("cut_layer", f"found {settings.cut_layer}, expected {valid}, where YOLOv5 can be cut"))
    if algorithm == MISTNET:
        if settings.cut_layer is None:
            problems.append(("cut_layer", "Required value with aggregation_algorithm mistnet"))
        if settings.rounds != 1:
            problems.append(("exit_round", f"found {settings.rounds}, expected 1: mistnet has one round"))
    return problems


def require_runnable(algorithm: str) -> None:
    """Refuse an algorithm that cannot be started. Raises UserError."""
    if algorithm not in RUNNABLE:
        raise UserError(
            f"aggregation_algorithm is {algorithm}, which can be planned (--dry_run) but is not there yet; "
            f"expected {', '.join(RUNNABLE)}, e.g. --set_env aggregation_algorithm={FEDAVG} --transmitter ws"
        )


def launch_flags(algorithm: str) -> Tuple[str, ...]:
    """Return the flags with which servers and workers are started for ``algorithm``."""
    return ("--algorithm", algorithm) if algorithm == MISTNET else ()


def details(settings: Settings) -> Dict[str, Any]:
    """Return what a plan shows of a role's algorithm beyond what every algorithm has."""
    if algorithm_of(settings) != MISTNET:
        return {}
    names = ("cut_layer", "epsilon", "epochs", "batch_size", "learning_rate")
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def federated_keys(settings: Settings, trains: bool) -> Dict[str, Any]:
    """Return the keys of the federated YAML that belong to the algorithm.

    Args:
        trains: whether the role is the one that trains what is behind the cut: the aggregator.
    """
    if algorithm_of(settings) != MISTNET:
        return {}
    names = ("cut_layer", "epsilon", "epochs", "batch_size") if trains else ("cut_layer", "epsilon")
    found = details(settings)
    keys: Dict[str, Any] = {"algorithm": MISTNET, "mistnet": {name: found[name] for name in names if name in found}}
    if settings.transmitter == S3:
        keys["transmitter"] = {"channel": S3, "agg_data_path": settings.agg_data_path}
    return keys
