"""The settings of each role of a job: what its manifest and Sedna's injected variables come to, checked together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from cross_silo.sedna.algorithms import FEDAVG, MISTNET, algorithm_of, check_settings
from cross_silo.sedna.containers import Variables, client_id, map_path, worker_name
from cross_silo.sedna.environment import S3, WS, Settings, read_settings
from cross_silo.sedna.problems import Problem, invalid
from cross_silo.sedna.references import Resolved

COMMON = ("aggregation_algorithm", "exit_round", "model_config", "num_classes", "class_names", "cut_layer", "epsilon")
"""What the roles of a job must agree in; a worker that does not say it has the aggregator's."""


@dataclass(frozen=True)
class Trial:
    """What the command line changes of a job."""

    set_env: Mapping[str, str] = field(default_factory=dict)
    transmitter: str = ""
    path_map: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    """Where the aggregator listens."""
    port: int = 7363


@dataclass
class Role:
    """A container's settings."""

    settings: Settings
    environment: Dict[str, str]
    index: int = -1
    """Of a trainer's shard."""


@dataclass
class Roles:
    """All roles of a job, with what is wrong."""

    aggregator: Role
    trainers: List[Role] = field(default_factory=list)
    problems: List[Problem] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)


def structure_problems(found: Resolved) -> List[Problem]:
    """Return what a job's pods lack that its schema does not ask for."""
    spec, problems = found.job.spec, []
    pods = {"spec.aggregationWorker": spec.aggregation_worker.template.spec}
    for index, worker in enumerate(spec.training_workers):
        pods[f"spec.trainingWorkers[{index}]"] = worker.template.spec
    for place, pod in pods.items():
        path = f"{place}.template.spec.containers"
        if pod is None or not pod.containers:
            problems.append(Problem(found.subject, path, "Required value"))
            continue
        names = [container.name for container in pod.containers]
        for index, name in enumerate(names):
            if name in names[:index]:
                problems.append(Problem(found.subject, f"{path}[{index}].name", f'Duplicate value: "{name}"'))
    if not spec.training_workers:
        reason = "Invalid value: []: expected at least one training worker; the aggregator would wait for nobody"
        problems.append(Problem(found.subject, "spec.trainingWorkers", reason))
    return problems


def find_roles(found: Resolved, trial: Trial) -> Roles:
    """Return the roles of a job whose pods have containers."""
    return _Finder(found, trial).find()


class _Finder:
    def __init__(self, found: Resolved, trial: Trial) -> None:
        self._found, self._trial = found, trial
        self._job = found.job
        self._problems: List[Problem] = []
        self._notes: List[str] = []

    def find(self) -> Roles:
        spec = self._job.spec
        aggregator = self._role(
            spec.aggregation_worker.template.spec, "spec.aggregationWorker", self._for_aggregator(), None
        )
        algorithm = algorithm_of(aggregator.settings)
        if algorithm == FEDAVG:
            self._note_idle(aggregator.settings, "spec.aggregationWorker", "FedAvg's aggregator does not train")
        roles = Roles(aggregator, problems=self._problems, notes=self._notes)
        ids: Dict[int, str] = {}
        for index, worker in enumerate(spec.training_workers):
            place = f"spec.trainingWorkers[{index}]"
            role = self._role(worker.template.spec, place, self._for_trainer(index), aggregator.settings)
            if algorithm == MISTNET:
                self._note_idle(role.settings, place, "MistNet's aggregator trains, by its own")
            role.index = self._shard(worker.template.spec.containers[0], index, place, ids)
            roles.trainers.append(role)
        return roles

    def _problem(self, path: str, reason: str) -> None:
        self._problems.append(Problem(self._found.subject, path, reason))

    def _role(self, pod: Any, place: str, injected: Mapping[str, str], aggregator: Optional[Settings]) -> Role:
        path = f"{place}.template.spec.containers[0]"
        if len(pod.containers) > 1:
            self._notes.append(f"{place}.template.spec.containers: the first is the worker's, others do not run")
        variables = Variables(pod.containers[0], path, self._trial.set_env)
        for name in variables.inject(injected):
            self._notes.append(f"{path}.env: {name} is set by Sedna, whose value is used")
        unread = variables.unread()
        if unread:
            self._notes.append(f"{path}.env: nothing here reads {', '.join(unread)}")
        if variables.from_elsewhere:
            self._notes.append(f"{path}.env: known in a cluster only: {', '.join(variables.from_elsewhere)}")
        settings, wrong = read_settings(variables.values)
        bad = {name.lower() for name, _ in wrong}
        if aggregator is not None:
            settings, inherited, differing = _with_common(settings, aggregator)
            wrong += differing
            bad |= inherited | {name for name, _ in differing} | {"transmitter"}  # told of the aggregator
        wrong += [entry for entry in check_settings(settings) if entry[0].lower() not in bad]
        for name, reason in wrong:
            self._problem(self._place(variables, name, path), reason)
        return Role(settings, dict(variables.values))

    def _place(self, variables: Variables, name: str, path: str) -> str:
        if name == "TRANSMITTER":
            return "--transmitter" if self._trial.transmitter else "spec.transmitter"
        return variables.path(name) or f"{path}.env[{name}]"

    def _shared(self) -> Dict[str, str]:
        found, job = self._found, self._job
        transmitter = self._trial.transmitter or (S3 if job.spec.transmitter.s3 is not None else WS)
        values = {
            "NAMESPACE": job.metadata.namespace,
            "JOB_NAME": job.metadata.name,
            "PARTICIPANTS_COUNT": str(len(job.spec.training_workers)),
            "TRANSMITTER": transmitter,
        }
        if transmitter == S3 and job.spec.transmitter.s3 is not None:
            values["AGG_DATA_PATH"] = job.spec.transmitter.s3.agg_data_path
        if found.model is not None:
            values["MODEL_URL"] = map_path(found.model.spec.url, self._trial.path_map)
        if found.pretrained is not None:
            values["PRETRAINED_MODEL_URL"] = map_path(found.pretrained.spec.url, self._trial.path_map)
        return values

    def _for_aggregator(self) -> Dict[str, str]:
        name = worker_name("aggworker", self._job.metadata.namespace, self._job.metadata.name, "aggregation")
        bound = {"WORKER_NAME": name, "AGG_BIND_IP": self._trial.host, "AGG_BIND_PORT": str(self._trial.port)}
        return {**self._shared(), **bound}

    def _for_trainer(self, index: int) -> Dict[str, str]:
        name = worker_name("trainworker", self._job.metadata.namespace, self._job.metadata.name, f"train-{index}")
        values = {
            **self._shared(),
            "WORKER_NAME": name,
            "AGG_IP": self._trial.host,
            "AGG_PORT": str(self._trial.port),
            "MODEL_NAME": self._job.spec.aggregation_worker.model.name,
            "DATASET_NAME": self._job.spec.training_workers[index].dataset.name,
        }
        dataset = self._found.datasets[index]
        if dataset is not None:
            values["TRAIN_DATASET_URL"] = map_path(dataset.spec.url, self._trial.path_map)
        return values

    def _shard(self, container: Any, index: int, place: str, ids: Dict[int, str]) -> int:
        """Return the index of a trainer's shard: its client id less 1; its place in the list without an id."""
        workers = len(self._job.spec.training_workers)
        text, where = client_id(container)
        path = f"{place}.template.spec.containers[0].{where or 'args'}"
        if text is None:
            number, text = index + 1, str(index + 1)
            self._notes.append(f"{path}: has no -i; the worker's place in the list counts: client id {number}")
        elif not text.isdecimal() or not text.isascii():
            self._problem(path, invalid(text, f"client id: expected a whole number from 1 to {workers}"))
            return index
        number = int(text)
        if not 1 <= number <= workers:
            self._problem(path, invalid(text, f"client id: {workers} workers have shards 1 to {workers}"))
        elif number in ids:
            self._problem(path, f"client id conflict: {number} is that of {ids[number]} too")
        ids.setdefault(number, place)
        return number - 1

    def _note_idle(self, settings: Settings, place: str, why: str) -> None:
        idle = [name for name in ("epochs", "batch_size", "learning_rate") if getattr(settings, name) is not None]
        if idle:
            self._notes.append(f"{place}: {', '.join(idle)} not used: {why}")


def _with_common(settings: Settings, aggregator: Settings) -> Tuple[Settings, Set[str], List[Tuple[str, str]]]:
    """Return a worker's settings with the aggregator's where it says nothing, which those are, and contradictions."""
    names = COMMON if algorithm_of(aggregator) == MISTNET else COMMON[:-2]
    taken: Dict[str, Any] = {}
    differing: List[Tuple[str, str]] = []
    for name in names:
        own, theirs = getattr(settings, name), getattr(aggregator, name)
        if own in (None, ""):
            taken[name] = theirs
        elif own != theirs:
            found = "nothing" if theirs in (None, "") else repr(theirs)
            differing.append((name, f"found {own!r}, but the aggregator has {found}; expected the same"))
    return replace(settings, **taken), set(taken), differing
