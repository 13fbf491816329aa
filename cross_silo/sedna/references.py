"""What a job's manifests refer to: each model, dataset, secret and node, found or a problem by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, List, Optional

from cross_silo.errors import UserError
from cross_silo.objects import Credentials
from cross_silo.sedna.manifests import JOB, Manifests
from cross_silo.sedna.names import FORMATS, mounts_root, name_fault, url_fault
from cross_silo.sedna.placeholders import is_open
from cross_silo.sedna.problems import Problem, not_found
from cross_silo.sedna.resources import Dataset, FederatedLearningJob, Model, Secret


@dataclass
class Resolved:
    """What a job refers to; None, or left out, where it has a problem."""

    job: FederatedLearningJob
    model: Optional[Model] = None
    pretrained: Optional[Model] = None
    datasets: List[Optional[Dataset]] = field(default_factory=list)
    """By training worker."""
    evaluation: Optional[Dataset] = None
    credentials: Dict[str, Credentials] = field(default_factory=dict)
    """By the Secret's name."""
    problems: List[Problem] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    @property
    def subject(self) -> str:
        """Kind/name of the job."""
        return f"{JOB}/{self.job.metadata.name}"


class Resolver:
    """Follows the references of one job."""

    def __init__(self, manifests: Manifests, job: FederatedLearningJob, nodes: Optional[FrozenSet[str]]) -> None:
        """``nodes``: names of the cluster's; None: not known, and not checked."""
        self._manifests, self._nodes = manifests, nodes
        self._namespace = job.metadata.namespace
        self._found = Resolved(job)
        self._checked: Dict[str, bool] = {}

    def resolve(self) -> Resolved:
        """Return what is found, with all problems."""
        found, spec = self._found, self._found.job.spec
        found.model = self._model(spec.aggregation_worker.model.name, "spec.aggregationWorker.model.name")
        if spec.pretrained_model.name:
            found.pretrained = self._model(spec.pretrained_model.name, "spec.pretrainedModel.name")
        aggregator = spec.aggregation_worker.template.spec
        self._node(aggregator.node_name if aggregator else "", "spec.aggregationWorker.template.spec.nodeName")
        for index, worker in enumerate(spec.training_workers):
            path = f"spec.trainingWorkers[{index}]"
            dataset = self._dataset(worker.dataset.name, f"{path}.dataset.name")
            found.datasets.append(dataset)
            pod = worker.template.spec
            self._worker_node(pod.node_name if pod else "", dataset, f"{path}.template.spec.nodeName")
        extension = self._manifests.extension(JOB, self._namespace, found.job.metadata.name)
        if extension.aggregation_worker.dataset is not None:
            path = "spec.aggregationWorker.dataset.name"
            found.evaluation = self._dataset(extension.aggregation_worker.dataset.name, path)
        if spec.transmitter.s3 is not None:
            self._transmitter()
        if self._nodes is None:
            found.notes.append("nodes are not checked: no --nodes was given")
        return found

    def _problem(self, path: str, reason: str, subject: str = "") -> None:
        problem = Problem(subject or self._found.subject, path, reason)
        if problem not in self._found.problems:
            self._found.problems.append(problem)

    def _reference(self, kind: str, name: str, path: str) -> Optional[object]:
        if not self._manifests.has(kind, self._namespace, name):
            self._problem(path, f"failed to get the {kind.lower()} {name}: {not_found(kind, name)}")
        return self._manifests.find(kind, self._namespace, name)

    def _model(self, name: str, path: str) -> Optional[Model]:
        model = self._reference("Model", name, path)
        if isinstance(model, Model):
            self._file(f"Model/{name}", model.spec.url, model.spec.credential_name)
            return model
        return None

    def _dataset(self, name: str, path: str) -> Optional[Dataset]:
        dataset = self._reference("Dataset", name, path)
        if not isinstance(dataset, Dataset):
            return None
        subject = f"Dataset/{name}"
        if not self._checked.get(subject):
            self._file(subject, dataset.spec.url, dataset.spec.credential_name)
            self._node(dataset.spec.node_name, "spec.nodeName", subject)
            if dataset.spec.format.lower() not in FORMATS:
                reason = f"dataset format({dataset.spec.format}) is invalid; expected {', '.join(FORMATS)}"
                self._problem("spec.format", reason, subject)
        self._checked[subject] = True
        return dataset

    def _file(self, subject: str, url: str, credential_name: str) -> None:
        fault = url_fault(url)
        if fault and not is_open(url):  # which is a problem of its own
            self._problem("spec.url", fault, subject)
        elif mounts_root(url):
            note = f"{subject}: spec.url: Sedna mounts the parent of {url}, the host's root; a directory below is safer"
            if note not in self._found.notes:
                self._found.notes.append(note)
        if credential_name:
            self._credentials(credential_name, subject, "spec.credentialName")
        elif url.startswith("s3://"):
            self._problem("spec.credentialName", "Required value: spec.url is of s3", subject)

    def _credentials(self, name: str, subject: str, path: str) -> None:
        if not self._manifests.has("Secret", self._namespace, name):
            self._problem(path, f"failed to get the secret {name}: {not_found('Secret', name)}", subject)
        secret = self._manifests.find("Secret", self._namespace, name)
        if not isinstance(secret, Secret) or name in self._found.credentials:
            return
        try:
            self._found.credentials[name] = Credentials.from_secret(secret.model_dump(by_alias=True))
        except UserError as error:
            self._problem("", str(error).replace(f"Secret/{name}: ", "", 1), f"Secret/{name}")

    def _transmitter(self) -> None:
        s3 = self._found.job.spec.transmitter.s3
        path = "spec.transmitter.s3"
        if s3 is None:
            return
        fault = url_fault(s3.agg_data_path)
        if not fault and not s3.agg_data_path.startswith("s3://"):
            fault = f"invalid url({s3.agg_data_path}): expected s3://bucket/prefix"
        if fault and not is_open(s3.agg_data_path):
            self._problem(f"{path}.aggDataPath", fault)
        if s3.credential_name:
            self._credentials(s3.credential_name, self._found.subject, f"{path}.credentialName")
        else:
            self._problem(f"{path}.credentialName", "Required value: features go by way of s3")

    def _node(self, name: str, path: str, subject: str = "") -> None:
        if not name or is_open(name):  # which is a problem of its own
            return
        fault = name_fault(name)
        if fault:
            self._problem(path, fault, subject)
        elif self._nodes is not None and name not in self._nodes:
            self._problem(path, f'node "{name}" not found; known are {", ".join(sorted(self._nodes))}', subject)

    def _worker_node(self, name: str, dataset: Optional[Dataset], path: str) -> None:
        self._node(name, path)
        if dataset is None:
            return
        if not name:
            note = f"{path}: is not set; the worker's node is that of Dataset {dataset.metadata.name}"
            self._found.notes.append(note)
        elif name != dataset.spec.node_name and not is_open(f"{name} {dataset.spec.node_name}"):
            reason = (
                f"{name} is not the node of Dataset {dataset.metadata.name}, whose data is on {dataset.spec.node_name}"
            )
            self._problem(path, reason)
