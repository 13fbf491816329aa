"""The aggregation algorithms that a Sedna job may name, and what each of them needs."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from cross_silo.config.mistnet import ALGORITHMS, FEDAVG, MISTNET, MistNet
from cross_silo.errors import UserError
from cross_silo.sedna.coco_classes import COCO_CLASSES
from cross_silo.sedna.environment import S3, Problem, Settings

NOT_THERE_YET = ("fedprox", "scaffold", "fednova", "adaptive_sync", "adaptive_freezing")
CUT_LAYERS = range(1, 6)
"""Where YOLOv5 can be cut: its neck takes the outputs of layers 4 and 6 again, and layer 0 sees the image."""
KEEPS_BITS = ".ckpt"
"""Ending of the one format that says of a model that it takes bits at the cut."""


def algorithm_of(settings: Settings) -> str:
    """Return the job's algorithm; FedAvg where nothing is said."""
    return settings.aggregation_algorithm or FEDAVG


def check_settings(settings: Settings) -> List[Problem]:
    """Return what in ``settings`` the algorithm refuses."""
    algorithm = algorithm_of(settings)
    if algorithm in NOT_THERE_YET:
        return [("aggregation_algorithm", f"{algorithm} is not there yet; expected one of {', '.join(ALGORITHMS)}")]
    if algorithm not in ALGORITHMS:
        reason = f"can't find aggregation {algorithm}; expected one of {', '.join(ALGORITHMS)}"
        return [("aggregation_algorithm", reason)]
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


def launch_flags(algorithm: str) -> Tuple[str, ...]:
    """Return the flags with which servers and workers are started for ``algorithm``."""
    return ("--algorithm", algorithm) if algorithm == MISTNET else ()


def trains(algorithm: str, aggregates: bool) -> bool:
    """Tell whether a role trains.

    Args:
        aggregates: it is the aggregator, not a training worker.
    """
    return aggregates == (algorithm == MISTNET)


def details(settings: Settings, aggregates: bool) -> Dict[str, Any]:
    """Return what a plan shows of a role's algorithm beyond what every algorithm has."""
    if algorithm_of(settings) != MISTNET:
        return {}
    names = ["cut_layer", "epsilon", *(("epochs", "batch_size", "learning_rate") if aggregates else ())]
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def federated_keys(settings: Settings, aggregates: bool) -> Dict[str, Any]:
    """Return the keys of the federated YAML of a role that belong to the algorithm."""
    if algorithm_of(settings) != MISTNET:
        return {}
    found = details(settings, aggregates)
    found.pop("learning_rate", None)
    keys: Dict[str, Any] = {"algorithm": MISTNET, "mistnet": found}
    if aggregates:
        keys["fl_iteration_num"] = settings.epochs or MistNet.epochs
    if settings.transmitter == S3:
        keys["transmitter"] = {"channel": S3, "agg_data_path": settings.agg_data_path}
    return keys


def class_names(settings: Settings, named: Tuple[str, ...], number: Optional[int]) -> Tuple[str, ...]:
    """Return the names of the job's classes, which MistNet's server must know before it has seen any image.

    Args:
        named: by the Datasets.
        number: of classes; None: not said.

    Raises:
        UserError: nothing names them, or so many other ones.
    """
    names = named or settings.names
    if not names and number in (None, len(COCO_CLASSES)):
        names = tuple(COCO_CLASSES)
    if not names:
        raise UserError(
            f"num_classes is {number}, but MistNet's server must know the names of the classes; expected class_names, "
            "separated by commas, or the Datasets' classes (--extensions)"
        )
    if number not in (None, len(names)):
        raise UserError(f"class_names: {len(names)} names, but num_classes is {number}")
    return names


def lost_with(algorithm: str, url: str) -> str:
    """Return what a final model at ``url`` does not say; empty where nothing is lost."""
    if algorithm != MISTNET or url.lower().endswith(KEEPS_BITS):
        return ""
    return (
        f"the model takes bits at the cut, which only a {KEEPS_BITS} says: what detects with this file takes "
        f"activations there, and finds less; the job's checkpoints say it, as a Model whose url ends in {KEEPS_BITS} "
        "would"
    )
