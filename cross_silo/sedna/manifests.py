"""The resources of a set of manifests, typed, by kind, namespace and name; all that is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from pydantic import ValidationError

from cross_silo.errors import UserError
from cross_silo.sedna.documents import Document, read_documents
from cross_silo.sedna.environment import job_name_here
from cross_silo.sedna.extensions import EXTENSIONS, take_out
from cross_silo.sedna.names import job_name_fault, name_fault
from cross_silo.sedna.placeholders import fill
from cross_silo.sedna.podspec import CONTAINER, POD_SPEC
from cross_silo.sedna.problems import Problem, already_exists, from_validation
from cross_silo.sedna.resources import KINDS, FederatedLearningJob

JOB = "FederatedLearningJob"


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
        jobs = {key[2]: found for key, found in self.resources.items() if key[0] == JOB}
        if not jobs:
            raise UserError(f"--manifests: found no {JOB}; expected one")
        if wanted and wanted not in jobs:
            raise UserError(f"--job is {wanted!r}, but --manifests has {', '.join(sorted(jobs))}")
        if not wanted and len(jobs) > 1:
            raise UserError(f"--manifests has several jobs: {', '.join(sorted(jobs))}; expected --job with one of them")
        return jobs[wanted] if wanted else next(iter(jobs.values()))


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


def named_job(paths: Sequence[str], wanted: str = "") -> str:
    """Return the name that the job in the manifests has here, unchecked: to find what was started of it.

    Raises:
        UserError: there is none, or several and none is named.
    """
    if wanted and not paths:
        return wanted
    found = [document.content for path in paths for document in read_documents(path)]
    jobs = {_text(content, "metadata", "name"): content for content in found if content.get("kind") == JOB}
    if wanted not in ("", *jobs) or (not wanted and len(jobs) != 1):
        raise UserError(
            f"--manifests has the jobs {', '.join(sorted(jobs)) or 'none'}; expected --job with one of them"
        )
    name = wanted or next(iter(jobs))
    return job_name_here(name, _text(jobs[name], "metadata", "namespace"))


def _add(manifests: Manifests, document: Document, values: Mapping[str, str], with_extensions: bool) -> List[Problem]:
    content, missing = fill(document.content, values)
    kind, version = content.get("kind"), content.get("apiVersion")
    name = _text(content, "metadata", "name")
    subject = f"{kind}/{name}" if name else f"{kind} at {document.where}"
    if kind not in KINDS or KINDS[kind][0] != version:
        return [Problem(document.where, "", f'no matches for kind "{kind}" in version "{version}"')]
    key = (kind, _text(content, "metadata", "namespace") or "default", name)
    problems = [Problem(subject, path, f"${name} is not filled; expected --set {name}=value") for path, name in missing]
    if not missing:
        problems += _name_problems(kind, name, subject)
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


def _name_problems(kind: str, name: str, subject: str) -> List[Problem]:
    if not name:
        return [Problem(subject, "metadata.name", "Required value: name or generateName is required")]
    fault = job_name_fault(name) if kind == JOB else name_fault(name)
    return [Problem(subject, "metadata.name", fault)] if fault else []


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
