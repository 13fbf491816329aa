"""Sedna's FederatedLearningJob, Dataset and Model (sedna.io/v1alpha1) and Kubernetes' Secret: every field they have."""

from __future__ import annotations

import re
from typing import Annotated, Any, Dict, FrozenSet, List, Optional, Type

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from cross_silo.sedna.podspec import CONTAINER, OBJECT_META, POD_SPEC, QUANTITY

SEDNA, CORE = "sedna.io/v1alpha1", "v1"


class Resource(BaseModel):
    """A mapping whose keys are in camel case; others are refused, and values are never converted."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)


def _with(base: Type[Resource], names: FrozenSet[str]) -> Any:
    """Return ``base`` with fields that may hold anything."""
    fields: Dict[str, Any] = {_snake(name): (Optional[Any], Field(None, alias=name)) for name in sorted(names)}
    return create_model(base.__name__.lstrip("_"), __base__=base, **fields)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f"_{match[1].lower()}", name)


def _quantity(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    if not number and not (isinstance(value, str) and re.fullmatch(QUANTITY.strip("^$"), value)):
        raise PydanticCustomError(QUANTITY_ERROR, "no quantity")
    return value


QUANTITY_ERROR = "quantity"
Quantity = Annotated[Any, AfterValidator(_quantity)]


class _ObjectMeta(Resource):
    name: str
    namespace: Annotated[str, AfterValidator(lambda value: value or "default")] = "default"
    labels: Dict[str, str] = {}
    annotations: Dict[str, str] = {}


ObjectMeta = _with(_ObjectMeta, OBJECT_META)


class EnvVar(Resource):
    """A variable of a container; ``valueFrom`` is known in a cluster only."""

    name: str
    value: str = ""
    value_from: Optional[Dict[str, Any]] = None


class ResourceRequirements(Resource):
    """Limits and requests of a container."""

    limits: Dict[str, Quantity] = {}
    requests: Dict[str, Quantity] = {}
    claims: Optional[List[Any]] = None


class _Container(Resource):
    name: str
    image: str = ""
    image_pull_policy: str = ""
    command: List[str] = []
    args: List[str] = []
    env: List[EnvVar] = []
    resources: ResourceRequirements = ResourceRequirements()


Container = _with(_Container, CONTAINER)


class _PodSpec(Resource):
    containers: List[Container]  # type: ignore[valid-type]
    node_name: str = ""


PodSpec = _with(_PodSpec, POD_SPEC)


class PodTemplate(Resource):
    """A pod; Sedna's schema drops its metadata."""

    metadata: Dict[str, Any] = {}
    spec: PodSpec = None  # type: ignore[valid-type]


class Named(Resource):
    """A reference to another resource of the same namespace."""

    name: str


class S3Transmitter(Resource):
    """Features by way of an object store."""

    agg_data_path: str
    credential_name: str = ""


class Transmitter(Resource):
    """Where both are set, s3 is used."""

    ws: Optional[Dict[str, Any]] = None
    s3: Optional[S3Transmitter] = None


class AggregationWorker(Resource):
    """The pod that averages, and the model that it writes."""

    model: Named
    template: PodTemplate


class TrainingWorker(Resource):
    """A pod that trains on a dataset of its node."""

    dataset: Named
    template: PodTemplate


class JobSpec(Resource):
    """What is to be trained, where and from what."""

    aggregation_worker: AggregationWorker
    training_workers: List[TrainingWorker]
    pretrained_model: Named = Named(name="")
    transmitter: Transmitter = Transmitter()


class DatasetSpec(Resource):
    """Data of one node."""

    url: str
    format: str
    node_name: str
    credential_name: str = ""


class ModelSpec(Resource):
    """A model's file."""

    url: str
    format: str
    credential_name: str = ""
    device_soc_versions: Optional[List[str]] = Field(None, alias="device_soc_versions")


class _Top(Resource):
    api_version: str
    kind: str
    metadata: ObjectMeta  # type: ignore[valid-type]
    status: Optional[Any] = None
    """Kubernetes' own; not read."""


class FederatedLearningJob(_Top):
    """A job."""

    spec: JobSpec


class Dataset(_Top):
    """A dataset."""

    spec: DatasetSpec


class Model(_Top):
    """A model."""

    spec: ModelSpec


class Secret(_Top):
    """Keys of an object store, or a silo's token."""

    string_data: Dict[str, str] = {}
    data: Dict[str, str] = {}
    type: str = ""
    immutable: Optional[bool] = None


KINDS: Dict[str, Any] = {
    "FederatedLearningJob": (SEDNA, FederatedLearningJob),
    "Dataset": (SEDNA, Dataset),
    "Model": (SEDNA, Model),
    "Secret": (CORE, Secret),
}
"""apiVersion and type of each kind."""
