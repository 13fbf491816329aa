"""The resources of a set of manifests, typed, by kind, namespace and name; all that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, TypeVar

from pydantic import ValidationError

from cross_silo.errors import UserError
from cross_silo.sedna.documents import Document, read_documents
from cross_silo.sedna.environment import job_name_here
from cross_silo.sedna.extensions import EXTENSIONS, take_out
from cross_silo.sedna.names import job_name_fault, name_fault, namespace_fault
from cross_silo.sedna.placeholders import fill
from cross_silo.sedna.podspec import CONTAINER, POD_SPEC
from cross_silo.sedna.problems import Problem, already_exists, from_validation, type_reason
from cross_silo.sedna.resources import KINDS, FederatedLearningJob

JOB = "FederatedLearningJob"
DEFAULT_NAMESPACE = "default"
T = TypeVar("T")


@dataclass
class Manifests:
    """Typed resources."""

    resources: Dict[Tuple[str, str, str], Any] = field(default_factory=dict)
    """By kind, namespace and name."""
    extensions: Dict[Tuple[str, str, str], Any] = field(default_factory=dict)
    """The proposed fields of those that have some."""
    broken: List[Tuple[str, str, str]] = field(default_factory=list)
    """Those that are there, but are not what their schema says."""
    notes: List[str] = field(default_factory=list)

    def find(self, kind: str, namespace: str, name: str) -> Any:
        """Return a resource, or None."""
        return self.resources.get((kind, namespace, name))

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Tell whether a resource is there, typed or broken."""
        return (kind, namespace, name) in self.resources or (kind, namespace, name) in self.broken

    def extension(self, kind: str, namespace: str, name: str) -> Any:
        """Return the ``spec`` of a resource's proposed fields; that of none where it has none."""
        found = self.extensions.get((kind, namespace, name))
        return (found or EXTENSIONS[kind]()).spec

    def job(self, wanted: str = "") -> FederatedLearningJob:
        """Return the job named ``wanted``, or the only one. Raises UserError."""
        return _choose({key[1:]: found for key, found in self.resources.items() if key[0] == JOB}, wanted)


def read_manifests(
    paths: Sequence[str], values: Mapping[str, str], with_extensions: bool = False
) -> Tuple[Manifests, List[Problem]]:
    """Read all files.

    Args:
        values: of ``$NAME`` in the manifests.
        with_extensions: whether fields of Sedna's proposals are read.

    Raises:
        UserError: a file cannot be read, or is no YAML.
    """
    documents = [document for path in paths for document in read_documents(path)]
    manifests, problems = Manifests(), []
    for document in documents:
        problems += _add(manifests, document, values, with_extensions)
    return manifests, problems


def named_job(paths: Sequence[str], wanted: str = "", values: Mapping[str, str] = {}) -> str:  # noqa: B006
    """Return the name that the job in the manifests has here, to find what was started of it; nothing else is checked.

    Args:
        values: of ``$NAME`` in the manifests.

    Raises:
        UserError: there is none, or several and none is named, or it has a name that no job has.
    """
    if wanted and not paths:
        return wanted
    found = [fill(document.content, values)[0] for path in paths for document in read_documents(path)]
    keys = [_key(content) for content in found if content.get("kind") == JOB]
    _, namespace, name = _choose({key[1:]: key for key in keys}, wanted)
    problems = _name_problems(JOB, namespace, name, f"{JOB}/{name}")
    if problems:
        raise UserError(str(problems[0]))
    return job_name_here(name, namespace)


def _choose(jobs: Mapping[Tuple[str, str], T], wanted: str) -> T:
    """Return which of ``jobs``, by namespace and name, is ``wanted``: a name, or namespace.name. Raises UserError."""
    names = ", ".join(sorted(job_name_here(name, namespace) for namespace, name in jobs))
    if not jobs:
        raise UserError(f"--manifests: found no {JOB}; expected one")
    exactly = [key for key in jobs if wanted == job_name_here(key[1], key[0])]
    chosen = exactly or [key for key in jobs if wanted in ("", key[1])]
    if not chosen:
        raise UserError(f"--job is {wanted!r}, but --manifests has {names}")
    if len(chosen) > 1:
        raise UserError(f"--manifests has several jobs: {names}; expected --job with one of them")
    return jobs[chosen[0]]


def _key(content: Mapping[str, Any]) -> Tuple[str, str, str]:
    """Return kind, namespace and name of a manifest."""
    namespace = _text(content, "metadata", "namespace") or DEFAULT_NAMESPACE
    return _text(content, "kind"), namespace, _text(content, "metadata", "name")


def _add(manifests: Manifests, document: Document, values: Mapping[str, str], with_extensions: bool) -> List[Problem]:
    content, missing = fill(document.content, values)
    nameless = [_kind_problem(document.where, field, content) for field in ("apiVersion", "kind")]
    if any(nameless):
        return [problem for problem in nameless if problem]
    kind, namespace, name = key = _key(content)
    version = content["apiVersion"]
    subject = f"{kind}/{name}" if name else f"{kind} at {document.where}"
    if KINDS.get(kind, ("",))[0] != version:
        return [Problem(document.where, "", f'no matches for kind "{kind}" in version "{version}"')]
    problems = [Problem(subject, path, f"${name} is not filled; expected --set {name}=value") for path, name in missing]
    if not missing:
        problems += _name_problems(kind, namespace, name, subject)
    extension: Dict[str, Any] = {}
    if with_extensions:
        content, extension = take_out(content)
    try:
        if manifests.has(*key):
            problems.append(Problem(subject, "metadata.name", already_exists(kind, name)))
        if extension:
            manifests.extensions[key] = EXTENSIONS[kind].model_validate(extension)
    except ValidationError as error:
        problems += from_validation(error, subject, with_extensions)
    try:
        found = KINDS[kind][1].model_validate(content)
    except ValidationError as error:
        manifests.broken.append(key)
        wrong = from_validation(error, subject, with_extensions)
        return problems + [problem for problem in wrong if problem.path != "metadata.name"]
    if manifests.resources.setdefault(key, found) is found and kind == JOB:
        manifests.notes += _ignored(found)
    return problems


def _kind_problem(where: str, field: str, content: Mapping[str, Any]) -> Optional[Problem]:
    if field not in content:
        return Problem(where, field, "Required value")
    if not isinstance(content[field], str):
        return Problem(where, field, type_reason(field, content[field], "string"))
    return None


def _name_problems(kind: str, namespace: str, name: str, subject: str) -> List[Problem]:
    fault = namespace_fault(namespace)
    problems = [Problem(subject, "metadata.namespace", fault)] if fault else []
    if not name:
        return [*problems, Problem(subject, "metadata.name", "Required value: name or generateName is required")]
    fault = job_name_fault(name) if kind == JOB else name_fault(name)
    return [*problems, Problem(subject, "metadata.name", fault)] if fault else problems


def _ignored(job: FederatedLearningJob) -> List[str]:
    """Return notes about fields of pods that have no effect here."""
    templates = {"spec.aggregationWorker.template.spec": job.spec.aggregation_worker.template.spec}
    for index, worker in enumerate(job.spec.training_workers):
        templates[f"spec.trainingWorkers[{index}].template.spec"] = worker.template.spec
    by_names: Dict[Tuple[str, ...], List[str]] = {}
    for path, pod in templates.items():
        if pod is None:
            continue
        names = _set_of(pod, POD_SPEC)
        for container in pod.containers:
            names += [f"containers.{name}" for name in _set_of(container, CONTAINER)]
            if container.resources.limits or container.resources.requests:
                names.append("containers.resources")
        if names:
            by_names.setdefault(tuple(dict.fromkeys(names)), []).append(path)
    return [f"{', '.join(paths)}: no effect outside a cluster: {', '.join(names)}" for names, paths in by_names.items()]


def _set_of(found: Any, names: "frozenset[str]") -> List[str]:
    fields = type(found).model_fields
    return sorted(fields[name].alias for name in found.model_fields_set if fields[name].alias in names)


def _text(content: Mapping[str, Any], *keys: str) -> str:
    value: Any = content
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
