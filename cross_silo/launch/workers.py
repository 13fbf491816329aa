"""The workers that one command starts: their silos, data and threads, checked before any of them starts."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from cross_silo.config.federated import FederatedConfig
from cross_silo.config.mistnet import FEDAVG, MISTNET
from cross_silo.config.model import load_model
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from cross_silo.launch.arguments import check_address, check_file
from cross_silo.launch.role import Role
from cross_silo.mistnet.cut_detector import legal_cut
from cross_silo.protocol.access import credentials

READY_SECONDS = 600.0
"""A worker serves once it holds its silo's lease: before, MindSpore is imported and the training step compiled."""
MODULES = {FEDAVG: "cross_silo.training.worker", MISTNET: "cross_silo.mistnet.edge"}
"""The worker process, by the job's algorithm."""
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class WorkerPlan:
    """What the command line says of the workers."""

    yaml_config: str
    config: str
    dataset_path: Path
    http_server_address: str
    run_dir: Path
    """The job's."""
    count: int = 1
    first: int = 0
    silo: str = ""
    """Name of the only worker's silo; empty: silo_{index}."""
    pre_trained: str = ""
    val_annotations: str = ""
    """COCO json of a silo's own validation set; ``{i}`` stands for the worker's index. Empty: none has one."""
    val_image_dir: str = ""
    """Directory that its file names are relative to; may hold ``{i}`` too."""
    threads: Optional[int] = None
    """OpenMP threads a worker; None: the cores shared among the workers, unless the user's environment says."""


def silos_of(silo: str, first: int, count: int) -> List[str]:
    """Return the silos of ``count`` workers from index ``first`` on; ``silo`` names that of a single one."""
    return [silo] if silo else [f"silo_{index}" for index in range(first, first + count)]


def worker_roles(plan: WorkerPlan, federated: FederatedConfig, module: str = "") -> List[Role]:
    """Return the roles of ``plan``, checked.

    Args:
        federated: the content of ``plan.yaml_config``.
        module: what runs as ``python -m``; empty: the worker of the job's algorithm.

    Raises:
        UserError: names the flag, key or file that cannot work.
    """
    check_address(plan.http_server_address, "--http_server_address", federated)
    model = load_model(plan.config)
    module = module or MODULES[federated.algorithm]
    if federated.algorithm == MISTNET:
        legal_cut(model.detector_class, federated.mistnet.cut_layer)
    if plan.pre_trained:
        check_file(plan.pre_trained, "--pre_trained")
    silos = check_silos(plan, federated)
    for silo in silos:
        credentials(federated, silo)
    check_validation(plan, federated)
    if not plan.dataset_path.is_dir():
        raise UserError(f"--dataset_path is {plan.dataset_path}: no such directory")
    environment = thread_environment(plan)
    roles = []
    for index, silo in enumerate(silos, plan.first):
        dataset_dir = plan.dataset_path / f"mindrecord_{index}"
        read_manifest(dataset_dir)
        command = [sys.executable, "-m", module]
        command += ["--yaml_config", plan.yaml_config, "--config", plan.config]
        command += ["--worker_index", str(index), "--silo", silo]
        command += ["--dataset_dir", str(dataset_dir), "--http_server_address", plan.http_server_address]
        command += ["--run_dir", str(plan.run_dir)]
        if plan.pre_trained:
            command += ["--pre_trained", plan.pre_trained]
        if plan.val_annotations:
            command += validation_flags(plan, index)
        roles.append(
            Role(
                f"worker_{index}",
                command,
                plan.http_server_address,
                ready_seconds=READY_SECONDS,
                environment=environment,
            )
        )
    return roles


def check_silos(plan: WorkerPlan, federated: FederatedConfig) -> List[str]:
    """Return the silos, refusing those that the job does not know or has no room for. Raises UserError."""
    if plan.silo and plan.count != 1:
        raise UserError(f"--silo names one silo, but --local_worker_num is {plan.count}; expected 1")
    if plan.count > federated.num_silos:
        raise UserError(
            f"--local_worker_num is {plan.count}, but the job of {plan.yaml_config} has {federated.num_silos} silos"
        )
    names = silos_of(plan.silo, plan.first, plan.count)
    unknown = [name for name in names if federated.silo_names and name not in federated.silo_names]
    if unknown:
        raise UserError(
            f"{plan.yaml_config}: silos does not name {', '.join(unknown)}; expected one of "
            f"{', '.join(federated.silo_names)} (--silo, with --local_worker_num 1)"
        )
    return names


def check_validation(plan: WorkerPlan, federated: FederatedConfig) -> None:
    """Refuse half a validation set, one for several silos, and one for silos without a model. Raises UserError."""
    if plan.val_annotations and federated.algorithm == MISTNET:
        raise UserError("--val_annotations is given, but with algorithm mistnet a silo has no model to measure")
    if bool(plan.val_annotations) != bool(plan.val_image_dir):
        given, missing = ("annotations", "image_dir") if plan.val_annotations else ("image_dir", "annotations")
        raise UserError(f"--val_{given} is given without --val_{missing}; expected both or neither")
    if plan.val_annotations and plan.count > 1 and "{i}" not in plan.val_annotations:
        raise UserError(
            f"--val_annotations {plan.val_annotations} is one file for {plan.count} silos; "
            "expected a path with {i} in place of the worker's index"
        )


def validation_flags(plan: WorkerPlan, index: int) -> List[str]:
    """Return a worker's flags for its silo's validation set. Raises UserError where a path does not exist."""
    annotations = plan.val_annotations.replace("{i}", str(index))
    image_dir = plan.val_image_dir.replace("{i}", str(index))
    check_file(annotations, "--val_annotations")
    if not Path(image_dir).is_dir():
        raise UserError(f"--val_image_dir is {image_dir}: no such directory")
    return ["--val_annotations", annotations, "--val_image_dir", image_dir]


def thread_environment(plan: WorkerPlan) -> Dict[str, str]:
    """Return the variable that shares the machine's cores among the plan's workers."""
    if plan.threads is None and os.environ.get(THREADS):
        return {}
    threads = plan.threads or max(1, len(os.sched_getaffinity(0)) // plan.count)
    return {THREADS: str(threads)}
