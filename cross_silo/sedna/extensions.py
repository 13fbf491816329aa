"""Fields of Sedna's proposals, in a well-formed spelling: what each means here, or why it is refused.

Proposals: https://github.com/kubeedge/sedna/issues/50. Stock Sedna knows none of them.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from cross_silo.sedna.algorithms import NOT_THERE_YET
from cross_silo.sedna.resources import Named, Resource

DATASET_FIELDS = ("name", "data_params", "download_url", "data_path", "num_classes", "image_size", "classes")
MODEL_FIELDS = ("model_name", "framework", "model_config", "pretrained")
DEFAULT_ACCURACY = "map50"
"""What targetAccuracy is of where ``of`` is not said: Sedna's example measures AP50."""
SIMPLE, SYNC_FREQUENCY = "simple", "sync_frequency"

Faults = List[Tuple[str, str]]
"""(path, reason)"""


class Condition(Resource):
    """A comparison."""

    operator: str
    threshold: Union[StrictInt, StrictFloat]
    metric: str


class Trigger(Resource):
    """When a round is averaged."""

    condition: Condition


class Parameter(Resource):
    """A strategy's parameter."""

    name: str
    value: str


class Strategy(Resource):
    """How weights travel."""

    name: str
    parameters: List[Parameter] = []


class Strategies(Resource):
    """Beside ws and s3."""

    transmitter_list: List[Strategy] = Field([], alias="transmitter_list")


class AggregationExtension(Resource):
    """The held-out images of the aggregator's host."""

    dataset: Optional[Named] = None


class TrainingExtension(Resource):
    """A worker's model: the job's own."""

    model: Optional[Named] = None


class JobExtensionSpec(Resource):
    """Proposed fields of a job."""

    stop_condition: Dict[str, Any] = {}
    aggregation_trigger: Optional[Trigger] = None
    transmitter: Strategies = Strategies()
    aggregation_worker: AggregationExtension = AggregationExtension()
    training_workers: List[TrainingExtension] = []


class DataPath(Resource):
    """Directories below the Dataset's url."""

    train_path: str = Field("", alias="train_path")
    test_path: str = Field("", alias="test_path")


class DatasetExtensionSpec(Resource):
    """Proposed fields of a dataset."""

    name: str = ""
    data_params: Optional[Any] = Field(None, alias="data_params")
    download_url: str = Field("", alias="download_url")
    data_path: DataPath = Field(DataPath(), alias="data_path")
    num_classes: Optional[StrictInt] = Field(None, alias="num_classes")
    image_size: Optional[StrictInt] = Field(None, alias="image_size")
    classes: List[str] = []


class ModelExtensionSpec(Resource):
    """Proposed fields of a model."""

    model_config_path: str = Field("", alias="model_config")
    model_name: str = Field("", alias="model_name")
    framework: str = ""
    pretrained: StrictBool = False


class JobExtension(Resource):
    """Of a FederatedLearningJob."""

    spec: JobExtensionSpec = JobExtensionSpec()


class DatasetExtension(Resource):
    """Of a Dataset."""

    spec: DatasetExtensionSpec = DatasetExtensionSpec()


class ModelExtension(Resource):
    """Of a Model."""

    spec: ModelExtensionSpec = ModelExtensionSpec()


EXTENSIONS: Dict[str, Any] = {
    "FederatedLearningJob": JobExtension,
    "Dataset": DatasetExtension,
    "Model": ModelExtension,
}


def take_out(content: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return a manifest without its proposed fields, and those fields alone at the same paths."""
    plain: Dict[str, Any] = copy.deepcopy(dict(content))
    spec, kind = plain.get("spec"), plain.get("kind")
    if not isinstance(spec, dict):
        return plain, {}
    taken: Dict[str, Any] = {}
    if kind == "FederatedLearningJob":
        _move(spec, taken, ("stopCondition", "aggregationTrigger"))
        _move_below(spec, taken, "transmitter", "transmitter_list")
        _move_below(spec, taken, "aggregationWorker", "dataset")
        workers = spec.get("trainingWorkers")
        if isinstance(workers, list) and any(isinstance(worker, dict) and "model" in worker for worker in workers):
            taken["trainingWorkers"] = [{} for _ in workers]
            for worker, place in zip(workers, taken["trainingWorkers"]):
                if isinstance(worker, dict):
                    _move(worker, place, ("model",))
    elif kind in ("Dataset", "Model"):
        _move(spec, taken, DATASET_FIELDS if kind == "Dataset" else MODEL_FIELDS)
    return plain, {"spec": taken} if taken else {}


def _move(source: Dict[str, Any], target: Dict[str, Any], names: Tuple[str, ...]) -> None:
    for name in names:
        if name in source:
            target[name] = source.pop(name)


def _move_below(source: Dict[str, Any], target: Dict[str, Any], parent: str, name: str) -> None:
    if isinstance(source.get(parent), dict) and name in source[parent]:
        target.setdefault(parent, {})[name] = source[parent].pop(name)


def job_keys(extension: JobExtensionSpec) -> Tuple[Dict[str, Any], Faults]:
    """Return the keys of the federated YAML that a job's proposed fields come to, and what is refused of them."""
    keys: Dict[str, Any] = {}
    faults: Faults = []
    if extension.stop_condition:
        keys["stop_condition"] = with_accuracy(extension.stop_condition)
    if extension.aggregation_trigger is not None:
        keys["aggregation_trigger"] = extension.aggregation_trigger.condition.model_dump()
    strategies = extension.transmitter.transmitter_list
    if len(strategies) > 1:
        names = ", ".join(strategy.name for strategy in strategies)
        faults.append(("spec.transmitter.transmitter_list", f"found {names}: a job has one strategy"))
    for index, strategy in enumerate(strategies[:1]):
        path = f"spec.transmitter.transmitter_list[{index}]"
        keys.update(_strategy_keys(strategy, path, faults))
    return keys, faults


def with_accuracy(condition: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a stop condition in which every targetAccuracy says of what: AP50 where nothing is said."""
    whole = dict(condition)
    if whole.get("metric") in ("targetAccuracy", "target_accuracy"):
        whole.setdefault("of", DEFAULT_ACCURACY)
    for name in ("conditions", "any", "all"):
        if isinstance(whole.get(name), list):
            whole[name] = [with_accuracy(child) if isinstance(child, dict) else child for child in whole[name]]
    return whole


def rounds_bound(condition: Any) -> int:
    """Return the round with which the last comparison of rounds in a stop condition is met; 0 without one.

    ``> 100`` is met by round 101, ``>= 100`` by round 100.
    """
    if not isinstance(condition, dict):
        return 0
    children = [child for name in ("conditions", "any", "all") for child in condition.get(name) or ()]
    bounds = [rounds_bound(child) for child in children]
    threshold = condition.get("threshold")
    if condition.get("metric") == "rounds" and isinstance(threshold, (int, float)):
        bounds.append(int(threshold) + (condition.get("operator") == ">"))
    return max(bounds, default=0)


def _strategy_keys(strategy: Strategy, path: str, faults: Faults) -> Dict[str, Any]:
    if strategy.name != SIMPLE:
        known = f"{strategy.name} is not there yet" if strategy.name in NOT_THERE_YET else "no such strategy"
        faults.append((f"{path}.name", f"found {strategy.name!r}: {known}; expected {SIMPLE}"))
        return {}
    client: Dict[str, Any] = {}
    for index, parameter in enumerate(strategy.parameters):
        place = f"{path}.parameters[{index}]"
        if parameter.name != SYNC_FREQUENCY:
            faults.append((f"{place}.name", f"found {parameter.name!r}, expected {SYNC_FREQUENCY}"))
        elif not parameter.value.isdecimal() or int(parameter.value) < 1:
            faults.append(
                (f"{place}.value", f"found {parameter.value!r}, expected a whole number of steps, at least 1")
            )
        else:
            client[SYNC_FREQUENCY] = int(parameter.value)
    return {"client": client} if client else {}
