"""What a Sedna job comes to here: configuration files, data to prepare and launch commands, for each role by itself.

A pod's role calls :func:`aggregator_plan` or :func:`trainer_plan` with its own environment; a job read from manifests
is the same functions over the environments that Sedna would inject.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from cross_silo.config.model import load_model
from cross_silo.config.schema import build, merge
from cross_silo.errors import UserError
from cross_silo.mistnet.cut_detector import legal_cut
from cross_silo.sedna.algorithms import (
    MISTNET,
    algorithm_of,
    check_settings,
    class_names,
    details,
    federated_keys,
    launch_flags,
    trains,
)
from cross_silo.sedna.environment import WS, Settings, job_name_here

ROOT = Path(__file__).resolve().parents[2]
CONFIGS, SCRIPTS = ROOT / "configs", ROOT / "scripts"
DEFAULT_MODEL = "yolov5s"
"""Of the federated example of Sedna that detects objects."""
DEFAULT_CLASSES = 80
"""COCO's."""

Commands = Tuple[Tuple[str, ...], ...]


@dataclass(frozen=True)
class Place:
    """Where a role runs on its host."""

    run_dir: Path
    redis_address: str = "127.0.0.1:2345"
    scheduler_manage_address: str = "127.0.0.1:18019"


@dataclass(frozen=True)
class DatasetPlan:
    """Where a silo's images come from, and what is made of them before the first round."""

    url: str
    """A directory of this host, or s3://, http(s)://."""
    local: str
    """The directory or file of this host that it is read from; a url of another host is fetched to it."""
    mindrecord_dir: str
    """mindrecord_{i}, made where it is not there yet; its parent is --dataset_path. Empty: none is made."""
    format: str = ""
    """dir, mindrecord, txt or csv; empty: found out."""
    classes: Tuple[str, ...] = ()
    """Names of the classes of YOLO's labels; empty: those beside them, else COCO's."""
    classes_file: str = ""
    """The file that has them."""
    name: str = ""
    command: Tuple[str, ...] = ()
    """What makes ``mindrecord_dir``; run again, it finds that it is there."""


@dataclass(frozen=True)
class AggregatorPlan:
    """The aggregator's part: scheduler and server, started in the order of ``commands``."""

    fl_name: str
    algorithm: str
    address: str
    """host:port at which the server listens."""
    federated_file: str
    federated: Dict[str, Any]
    """Content of the federated YAML."""
    model_file: str
    model: Dict[str, Any]
    """Content of the model YAML."""
    checkpoint_dir: str
    model_url: str
    """Where the final global model goes; empty: nowhere."""
    pre_trained_url: str = ""
    pre_trained: str = ""
    """The file of this host that round 0 starts from; a url of another host is fetched to it."""
    transmitter: str = WS
    agg_data_path: str = ""
    details: Dict[str, Any] = field(default_factory=dict)
    """What the algorithm has besides: MistNet's cut_layer, epsilon, epochs and batch_size."""
    classes: Tuple[str, ...] = ()
    """Names of the object classes, where the server must know them from the start."""
    classes_file: str = ""
    """The COCO file that has them, and no images."""
    evaluation: Optional[DatasetPlan] = None
    """Held-out images, of a job that names some."""
    commands: Commands = ()
    node: str = ""
    environment: Dict[str, str] = field(default_factory=dict)
    """Sedna's variables, without secrets."""


@dataclass(frozen=True)
class TrainerPlan:
    """One training worker's part; its batch size, learning rate, epochs and data are its own."""

    fl_name: str
    algorithm: str
    index: int
    """Of its shard and role directory, from 0."""
    silo: str
    address: str
    """host:port at which it finds the server."""
    federated_file: str
    federated: Dict[str, Any]
    model_file: str
    model: Dict[str, Any]
    dataset: DatasetPlan
    client_id: int
    """Sedna's, from 1."""
    details: Dict[str, Any] = field(default_factory=dict)
    commands: Commands = ()
    node: str = ""
    environment: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobPlan:
    """A whole job."""

    name: str
    namespace: str
    fl_name: str
    run_dir: str
    model_name: str
    aggregator: AggregatorPlan
    trainers: Tuple[TrainerPlan, ...]
    notes: Tuple[str, ...] = ()
    """What of the manifests has no effect here, or another one than it seems."""

    def document(self) -> Dict[str, Any]:
        """Return the plan as what JSON and YAML can hold."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> "JobPlan":
        """Return the plan that :meth:`document` was made of. Raises UserError naming ``where``."""
        return build(cls, document, where)


def aggregator_plan(
    settings: Settings,
    place: Place,
    *,
    node: str = "",
    federated: Mapping[str, Any] = {},  # noqa: B006 - never changed
    model: Mapping[str, Any] = {},  # noqa: B006
    environment: Mapping[str, str] = {},  # noqa: B006
    evaluation: Optional[DatasetPlan] = None,
    classes: Tuple[str, ...] = (),
) -> AggregatorPlan:
    """Return the aggregator's part of a job.

    Args:
        settings: of the aggregation container; ``participants_count`` is needed.
        federated: keys of the federated YAML that win over those made from ``settings``, e.g. auth.
        model: the same of the model YAML.
        environment: Sedna's variables, without secrets, for the record.
        classes: names of the classes, where the job's Datasets say them.

    Raises:
        UserError: a setting that a plan cannot do without is missing, or the algorithm refuses one.
    """
    _check(settings)
    directory = place.run_dir / "sedna"
    federated_file, model_file = directory / "federated.yaml", directory / "model.yaml"
    pre_trained = local_path(settings.pretrained_model_url, place.run_dir / "fetched" / "pretrained")
    checkpoint_dir = place.run_dir / "checkpoints"
    algorithm = algorithm_of(settings)
    own = merge(_recipe(settings) if trains(algorithm, aggregates=True) else {}, model)
    names: Tuple[str, ...] = ()
    if algorithm == MISTNET:
        _check_mistnet(settings)
        names = class_names(settings, classes, own.get("num_classes") or settings.num_classes)
    classes_file = str(directory / "classes.json") if names else ""
    if names:  # the initial model takes their names from there where the number is open
        own = merge(own, {"num_classes": 0, "instance_set": classes_file})
    common = ("--yaml_config", str(federated_file), "--run_dir", str(place.run_dir))
    scheduler = _script("run_sched.py", *common, "--scheduler_manage_address", place.scheduler_manage_address)
    server = _script("run_server.py", *common, "--config", str(model_file))
    server += ("--checkpoint_dir", str(checkpoint_dir), "--http_server_address", settings.bind_address)
    if pre_trained:
        server += ("--pre_trained", pre_trained)
    return AggregatorPlan(
        fl_name=fl_name_of(settings),
        algorithm=algorithm,
        address=settings.bind_address,
        federated_file=str(federated_file),
        federated=federated_content(settings, place, merge(federated_keys(settings, aggregates=True), federated)),
        model_file=str(model_file),
        model=model_content(settings, own),
        checkpoint_dir=str(checkpoint_dir),
        model_url=settings.model_url,
        pre_trained_url=settings.pretrained_model_url,
        pre_trained=pre_trained,
        transmitter=settings.transmitter or WS,
        agg_data_path=settings.agg_data_path,
        details=details(settings, aggregates=True),
        classes=names,
        classes_file=classes_file,
        evaluation=evaluation,
        commands=(scheduler, server + launch_flags(algorithm)),
        node=node,
        environment=dict(environment),
    )


def trainer_plan(
    settings: Settings,
    place: Place,
    index: int,
    *,
    node: str = "",
    dataset_format: str = "",
    classes: Tuple[str, ...] = (),
    federated: Mapping[str, Any] = {},  # noqa: B006 - never changed
    model: Mapping[str, Any] = {},  # noqa: B006
    environment: Mapping[str, str] = {},  # noqa: B006
) -> TrainerPlan:
    """Return a training worker's part of a job.

    Args:
        settings: of its container; ``participants_count`` and ``train_dataset_url`` are needed.
        index: of its shard, from 0: Sedna's ``-i`` less 1.
        classes: names of the classes of YOLO's labels, where the job says them.
        federated: keys of the federated YAML that win over those made from ``settings``, e.g. auth.
        model: the same of the model YAML.

    Raises:
        UserError: a setting that a plan cannot do without is missing, or the algorithm refuses one.
    """
    _check(settings)
    if not settings.train_dataset_url:
        raise UserError("TRAIN_DATASET_URL is not set; expected the silo's data")
    directory = place.run_dir / "sedna" / f"worker_{index}"
    federated_file, model_file = directory / "federated.yaml", directory / "model.yaml"
    names = classes or settings.names
    dataset = dataset_plan(settings.train_dataset_url, place, index, dataset_format, names, settings.dataset_name)
    algorithm, silo = algorithm_of(settings), f"silo_{index}"
    worker = _script("run_worker.py", "--yaml_config", str(federated_file), "--run_dir", str(place.run_dir))
    worker += ("--config", str(model_file), "--first_worker_index", str(index), "--local_worker_num", "1")
    worker += ("--silo", silo, "--dataset_path", str(Path(dataset.mindrecord_dir).parent))
    worker += ("--http_server_address", settings.server_address)
    own, recipe = federated_keys(settings, aggregates=False), {}
    if trains(algorithm, aggregates=False):
        recipe = _recipe(settings)
        if settings.epochs:
            own["client"] = {"client_epoch_num": settings.epochs}
    return TrainerPlan(
        fl_name=fl_name_of(settings),
        algorithm=algorithm,
        index=index,
        silo=silo,
        address=settings.server_address,
        federated_file=str(federated_file),
        federated=federated_content(settings, place, merge(own, federated)),
        model_file=str(model_file),
        model=model_content(settings, merge(recipe, model)),
        dataset=dataset,
        client_id=index + 1,
        details=details(settings, aggregates=False),
        commands=(worker + launch_flags(algorithm),),
        node=node,
        environment=dict(environment),
    )


def _check(settings: Settings) -> None:
    problems = check_settings(settings)
    if problems:
        raise UserError("; ".join(f"environment variable {name}: {reason}" for name, reason in problems))


def _check_mistnet(settings: Settings) -> None:
    """Refuse what MistNet's server would refuse at its start. Raises UserError."""
    if not settings.pretrained_model_url:
        raise UserError(
            "PRETRAINED_MODEL_URL is not set (spec.pretrainedModel), but with aggregation_algorithm mistnet nothing "
            "before the cut is ever trained; expected a pre-trained model of the whole detector"
        )
    config = find_config(settings.model_config or DEFAULT_MODEL)
    legal_cut(load_model(config).detector_class, settings.cut_layer or "")


def _recipe(settings: Settings) -> Dict[str, Any]:
    """Return the model YAML's keys of a role that trains."""
    found = {"batch_size": settings.batch_size, "base_lr": settings.learning_rate}
    return {name: value for name, value in found.items() if value is not None}


def federated_content(settings: Settings, place: Place, over: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the federated YAML of a role, with the keys of ``over``. Raises UserError without PARTICIPANTS_COUNT."""
    if settings.participants_count is None:
        raise UserError("PARTICIPANTS_COUNT is not set; expected the number of training workers")
    content: Dict[str, Any] = {
        "fl_name": fl_name_of(settings),
        "fl_iteration_num": settings.rounds,
        "distributed_cache": {"address": place.redis_address},
        "silos": settings.participants_count,
        "round": {"start_fl_job_threshold": settings.participants_count},
    }
    return merge(content, over)


def model_content(settings: Settings, over: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the model YAML of a role, with the keys of ``over``."""
    content: Dict[str, Any] = {"base": find_config(settings.model_config or DEFAULT_MODEL)}
    content["num_classes"] = settings.num_classes or len(settings.names) or DEFAULT_CLASSES
    return merge(content, over)


def dataset_plan(
    url: str, place: Place, index: int, format: str = "", classes: Tuple[str, ...] = (), name: str = ""
) -> DatasetPlan:
    """Return what becomes of the Dataset at ``url`` on the host of shard ``index``."""
    local = local_path(url, place.run_dir / "fetched" / f"dataset_{index}")
    if is_archive(url):
        local = local[: -len(".zip")]  # it is unpacked there
    directory = place.run_dir / "dataset" / f"mindrecord_{index}"
    classes_file = f"{directory}.classes.txt" if classes else ""
    command = (sys.executable, "-m", "cross_silo.sedna.dataset_dir", "--dataset", local)
    command += ("--mindrecord_dir", str(directory))
    if format:
        command += ("--format", format.lower())
    if classes:
        command += ("--classes", classes_file)
    return DatasetPlan(url, local, str(directory), format.lower(), classes, classes_file, name, command)


def find_config(name: str) -> str:
    """Return the path of a model YAML: ``name`` itself, or that of configs/. Raises UserError."""
    candidates = [Path(name), ROOT / name, CONFIGS / name, CONFIGS / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return str(path.resolve())
    raise UserError(f"model_config is {name!r}: no such model YAML, neither here nor in {CONFIGS}")


def fl_name_of(settings: Settings) -> str:
    """Return the job's name here."""
    return job_name_here(settings.job_name or "sedna", settings.namespace)


def local_path(url: str, fetched: Path) -> str:
    """Return where ``url`` is on this host: its own path, or one below ``fetched``; empty where it is empty."""
    scheme, separator, rest = url.partition("://")
    if not url or not separator:
        return url
    name = os.path.basename(without_query(url).rstrip("/"))
    return rest if scheme == "file" else str(fetched / ("object" if name in ("", ".", "..") else name))


def without_query(url: str) -> str:
    """Return ``url`` without what follows the name of its file: a query, which may hold a signature, or a fragment."""
    return re.split("[?#]", url, maxsplit=1)[0] if url.startswith(("http://", "https://")) else url


def is_archive(url: str) -> bool:
    """Tell whether a Dataset at ``url`` is one .zip of another host."""
    return "://" in url and without_query(url).lower().endswith(".zip")


def _script(name: str, *arguments: str) -> Tuple[str, ...]:
    return (sys.executable, str(SCRIPTS / name), *arguments)


def _plain(value: Any) -> Any:
    """Return ``value`` with lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items: List[Any] = [_plain(item) for item in value]
        return items
    return value
