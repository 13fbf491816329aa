"""A job's plan from manifests: read, checked against each other, and planned as its pods would plan themselves."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import MistNet
from cross_silo.config.schema import build, merge
from cross_silo.errors import UserError
from cross_silo.objects import Credentials
from cross_silo.sedna.algorithms import KEEPS_BITS, MISTNET, algorithm_of, lost_with
from cross_silo.sedna.containers import map_path
from cross_silo.sedna.environment import PARSERS, SECRETS, Settings
from cross_silo.sedna.extended_resources import dataset_keys, model_config, train_url
from cross_silo.sedna.extensions import job_keys, rounds_bound
from cross_silo.sedna.manifests import JOB, Manifests, read_manifests
from cross_silo.sedna.plan import (
    AggregatorPlan,
    DatasetPlan,
    JobPlan,
    Place,
    TrainerPlan,
    aggregator_plan,
    dataset_plan,
    fl_name_of,
    trainer_plan,
)
from cross_silo.sedna.problems import ManifestError, Problem
from cross_silo.sedna.references import Resolved, Resolver
from cross_silo.sedna.roles import Role, Roles, Trial, find_roles, structure_problems

HELD_OUT = "dataset/evaluation"
"""Of the held-out images' COCO file in the run directory, without its ending."""


@dataclass(frozen=True)
class Options:
    """What the command line says besides the manifests."""

    job: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    """Of placeholders."""
    nodes: Optional[FrozenSet[str]] = None
    extensions: bool = False
    trial: Trial = field(default_factory=Trial)
    run_dir: Optional[Path] = None
    redis_address: str = "127.0.0.1:2345"
    scheduler_manage_address: str = "127.0.0.1:18019"


@dataclass(frozen=True)
class Access:
    """The object stores' keys of each part of a job; None where it needs none."""

    model: Optional[Credentials] = None
    pretrained: Optional[Credentials] = None
    transmitter: Optional[Credentials] = None
    evaluation: Optional[Credentials] = None
    datasets: Tuple[Optional[Credentials], ...] = ()


@dataclass(frozen=True)
class Planned:
    """A job that passed every check."""

    plan: JobPlan
    access: Access
    model_format: str


def plan_job(paths: Sequence[str], options: Options) -> Planned:
    """Return the plan of the job in the manifests at ``paths``.

    Raises:
        ManifestError: all that is wrong, one line each.
        UserError: a file cannot be read, or which job is meant is not said.
    """
    manifests, problems = read_manifests(paths, options.values, options.extensions)
    if any(kind == JOB for kind, _, _ in manifests.broken):
        raise ManifestError(problems)  # what it refers to cannot be followed
    job = manifests.job(options.job)
    found = Resolver(manifests, job, options.nodes).resolve()
    problems += found.problems
    structure = structure_problems(found)
    if structure:
        raise ManifestError(problems + structure)
    roles = find_roles(found, options.trial)
    planner = _Planner(manifests, found, roles, options)
    problems += roles.problems + planner.extension_problems()
    if problems:
        raise ManifestError(dict.fromkeys(problems))
    plan = planner.plan()
    return Planned(plan, planner.access(), found.model.spec.format if found.model else "")


class _Planner:
    """Plans a job's roles with the keys that its proposed fields add."""

    def __init__(self, manifests: Manifests, found: Resolved, roles: Roles, options: Options) -> None:
        self._manifests, self._found, self._roles, self._options = manifests, found, roles, options
        self._spec, self._namespace = found.job.spec, found.job.metadata.namespace
        self._federated: Dict[str, Any] = {}
        self._model: Dict[str, Any] = {}
        self._model_config = ""

    def extension_problems(self) -> List[Problem]:
        """Return what is wrong with proposed fields; what they come to is kept for the plan."""
        extension = self._manifests.extension(JOB, self._namespace, self._found.job.metadata.name)
        self._federated, faults = job_keys(extension)
        model_name = self._spec.aggregation_worker.model.name
        for index, worker in enumerate(extension.training_workers):
            if worker.model is not None and worker.model.name != model_name:
                path = f"spec.trainingWorkers[{index}].model.name"
                faults.append((path, f"found {worker.model.name}, but the job trains {model_name}; expected the same"))
        rounds = rounds_bound(self._federated.get("stop_condition"))
        if self._is_mistnet:
            faults += [(path, "MistNet has no rounds of updates; expected none") for path in self._of_updates()]
        elif self._federated.get("stop_condition") and self._roles.aggregator.settings.exit_round is None:
            if rounds:
                self._federated["fl_iteration_num"] = rounds
            else:
                reason = "has no bound in rounds; expected metric rounds, or the variable exit_round"
                faults.append(("spec.stopCondition", reason))
        problems = [Problem(self._found.subject, path, reason) for path, reason in faults]
        problems += self._of_datasets()
        if self._found.model is not None:
            self._model_config, faults = model_config(self._extension("Model", model_name))
            problems += [Problem(f"Model/{model_name}", path, reason) for path, reason in faults]
        return problems

    @property
    def _is_mistnet(self) -> bool:
        return algorithm_of(self._roles.aggregator.settings) == MISTNET

    def _of_updates(self) -> List[str]:
        """Return the paths of what the job says of updates and of local training."""
        paths = {"aggregation_trigger": "spec.aggregationTrigger", "client": "spec.transmitter.transmitter_list"}
        return [path for key, path in paths.items() if key in self._federated]

    def _extension(self, kind: str, name: str) -> Any:
        return self._manifests.extension(kind, self._namespace, name)

    def _of_datasets(self) -> List[Problem]:
        problems: List[Problem] = []
        for dataset in [*self._found.datasets, self._found.evaluation]:
            if dataset is None:
                continue
            name = dataset.metadata.name
            keys, faults = dataset_keys(self._extension("Dataset", name), name, dataset.spec.url)
            for key, value in keys.items():
                if self._model.setdefault(key, value) != value:
                    faults.append(("spec", f"{key} is {value}, but another dataset of the job has {self._model[key]}"))
            new = [Problem(f"Dataset/{name}", path, reason) for path, reason in faults]
            problems += [problem for problem in new if problem not in problems]
        return problems

    def plan(self) -> JobPlan:
        """Return the plan. Raises ManifestError where the job's configuration contradicts itself."""
        fl_name = fl_name_of(self._roles.aggregator.settings)
        run_dir = (self._options.run_dir or Path("runs") / fl_name).resolve()
        place = Place(run_dir, self._options.redis_address, self._options.scheduler_manage_address)
        try:
            aggregator = self._aggregator(place)
            trainers = tuple(self._trainer(place, role, number) for number, role in enumerate(self._roles.trainers))
            for content in [aggregator.federated, *(trainer.federated for trainer in trainers)]:
                build(FederatedConfig, content, aggregator.federated_file)
        except UserError as error:
            raise ManifestError([Problem(self._found.subject, "", str(error))]) from None
        job = self._found.job
        return JobPlan(
            name=job.metadata.name,
            namespace=self._namespace,
            fl_name=fl_name,
            run_dir=str(run_dir),
            model_name=self._spec.aggregation_worker.model.name,
            aggregator=aggregator,
            trainers=tuple(sorted(trainers, key=lambda trainer: trainer.index)),
            notes=tuple(dict.fromkeys(self._notes())),
        )

    def _settings(self, role: Role) -> Settings:
        """Return a role's settings with what the Model's proposed fields add."""
        settings = role.settings
        if self._model_config and not settings.model_config:
            settings = replace(settings, model_config=self._model_config)
        extension = self._extension("Model", self._spec.aggregation_worker.model.name)
        if extension.pretrained and not settings.pretrained_model_url:
            settings = replace(settings, pretrained_model_url=settings.model_url)
        return settings

    def _aggregator(self, place: Place) -> AggregatorPlan:
        role, evaluation = self._roles.aggregator, self._evaluation(place)
        if evaluation is not None:  # a worker's file has it too: it goes by how often the job evaluates
            held_out = {"annotations": f"{place.run_dir}/{HELD_OUT}.json", "image_dir": evaluation.local}
            self._federated = merge(self._federated, {"evaluation": held_out})
        return aggregator_plan(
            self._settings(role),
            place,
            node=self._spec.aggregation_worker.template.spec.node_name,
            federated=self._federated,
            model=self._model,
            environment=_shown(role.environment),
            evaluation=evaluation,
            classes=self._classes(),
        )

    def _classes(self) -> Tuple[str, ...]:
        """Return the names of the classes that the first Dataset with names has; all have as many."""
        named = (self._extension("Dataset", item.metadata.name).classes for item in self._found.datasets if item)
        return tuple(next(filter(None, named), ()))

    def _evaluation(self, place: Place) -> Optional[DatasetPlan]:
        dataset = self._found.evaluation
        if dataset is None:
            return None
        url = map_path(dataset.spec.url, self._options.trial.path_map)
        classes = tuple(self._extension("Dataset", dataset.metadata.name).classes)
        local = dataset_plan(url, place, len(self._roles.trainers)).local
        command = (sys.executable, "-m", "cross_silo.sedna.dataset_dir", "--dataset", local)
        command += ("--annotations", f"{place.run_dir}/{HELD_OUT}.json")
        classes_file = f"{place.run_dir}/{HELD_OUT}.classes.txt" if classes else ""
        if classes:
            command += ("--classes", classes_file)
        name, format = dataset.metadata.name, dataset.spec.format.lower()
        return DatasetPlan(url, local, "", format, classes, classes_file, name, command)

    def _trainer(self, place: Place, role: Role, number: int) -> TrainerPlan:
        worker, dataset = self._spec.training_workers[number], self._found.datasets[number]
        settings = self._settings(role)
        classes: Tuple[str, ...] = ()
        if dataset is not None:
            extension = self._extension("Dataset", dataset.metadata.name)
            url = map_path(train_url(extension, dataset.spec.url), self._options.trial.path_map)
            settings, classes = replace(settings, train_dataset_url=url), tuple(extension.classes)
        plan = trainer_plan(
            settings,
            place,
            role.index,
            node=worker.template.spec.node_name or (dataset.spec.node_name if dataset else ""),
            dataset_format=dataset.spec.format if dataset else "",
            classes=classes,
            federated=self._of_trainers(),
            model=self._model,
            environment=_shown(role.environment),
        )
        threads = max(1, len(os.sched_getaffinity(0)) // len(self._roles.trainers))
        return replace(plan, commands=tuple((*command, "--threads", str(threads)) for command in plan.commands))

    def _of_trainers(self) -> Dict[str, Any]:
        """Return the proposed keys in a worker's federated YAML; a silo of MistNet knows nothing of the training."""
        return {} if self._is_mistnet else self._federated

    def _notes(self) -> List[str]:
        notes = [*self._manifests.notes, *self._found.notes, *self._roles.notes]
        settings = self._roles.aggregator.settings
        transmitter = self._spec.transmitter
        if transmitter.ws is not None and transmitter.s3 is not None and not self._options.trial.transmitter:
            notes.append("spec.transmitter: has ws and s3: s3 is used, as in Sedna")
        if not settings.aggregation_algorithm:
            notes.append(f"aggregation_algorithm is not set: {algorithm_of(settings)}")
        if self._is_mistnet:
            notes += self._mistnet_notes(settings)
        elif settings.exit_round is None and "fl_iteration_num" not in self._federated:
            notes.append(f"exit_round is not set: {settings.rounds} round, as in Sedna")
        return notes

    def _mistnet_notes(self, settings: Settings) -> List[str]:
        notes = [f"epochs is not set: {MistNet.epochs}"] if settings.epochs is None else []
        model = self._found.model
        if model is not None:
            has_ending = "." in model.spec.url.rpartition("/")[2]
            lost = lost_with(MISTNET, model.spec.url if has_ending else f".{model.spec.format or KEEPS_BITS[1:]}")
            notes += [f"Model/{model.metadata.name}: {lost}"] if lost else []
        return notes

    def access(self) -> Access:
        """Return the keys that the job's parts need."""
        found = self._found

        def of(resource: Any) -> Optional[Credentials]:
            return found.credentials.get(resource.spec.credential_name) if resource is not None else None

        s3 = self._spec.transmitter.s3
        return Access(
            model=of(found.model),
            pretrained=of(found.pretrained),
            transmitter=found.credentials.get(s3.credential_name) if s3 is not None else None,
            evaluation=of(found.evaluation),
            datasets=tuple(
                of(found.datasets[number])
                for number, _ in sorted(enumerate(self._roles.trainers), key=lambda entry: entry[1].index)
            ),
        )


def _shown(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return what means something here, without secrets: a container's PATH, say, is not this machine's."""
    return {
        name: value for name, value in environment.items() if name.lower() in PARSERS and name.lower() not in SECRETS
    }
