"""The model's configuration, the silos' data and the checkpoint that a role is to use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from cross_silo.checkpoint import newest_checkpoint, read_checkpoint
from cross_silo.config.auth import SERVER
from cross_silo.config.model import load_model
from cross_silo.data.manifest import read_manifest
from cross_silo.errors import UserError
from cross_silo.preflight.check import ERROR, OK, WARNING, Check, size
from cross_silo.preflight.plan import WORKER, Plan


def check_model(plan: Plan) -> List[Check]:
    """Read the model YAML, if the role has one."""
    if not plan.model_yaml:
        return []
    try:
        model = load_model(plan.model_yaml)
    except UserError as error:
        return [Check("model", ERROR, str(error))]
    return [Check("model", OK, f"{plan.model_yaml}: detector {model.config.detector}")]


def check_evaluation(plan: Plan) -> List[Check]:
    """Look whether the server's validation set is there."""
    evaluation = plan.config.evaluation
    if plan.role != SERVER or not evaluation.annotations:
        return []
    for path, key, there in (
        (evaluation.annotations, "annotations", Path(evaluation.annotations).is_file()),
        (evaluation.image_dir, "image_dir", Path(evaluation.image_dir).is_dir()),
    ):
        if not there:
            return [Check("evaluation", ERROR, f"evaluation.{key} is {path}: not there")]
    if not plan.model_yaml:
        return [Check("evaluation", ERROR, "evaluation is set; expected --config with the model to evaluate")]
    return [Check("evaluation", OK, evaluation.annotations)]


def check_data(plan: Plan) -> List[Check]:
    """Read the manifest of each worker's data."""
    if plan.role != WORKER:
        return []
    if plan.dataset_path is None:
        return [Check("data", ERROR, "--dataset_path is not given; expected the directory that holds mindrecord_{i}")]
    checks = []
    for index in range(plan.first, plan.first + plan.count):
        directory = plan.dataset_path / f"mindrecord_{index}"
        try:
            manifest = read_manifest(directory)
        except UserError as error:
            checks.append(Check(f"data {index}", ERROR, str(error)))
            continue
        held = size(sum(shard.bytes for shard in manifest.shards))
        found = f"{directory}: {manifest.num_images} images, {manifest.num_classes} classes, {held}"
        job_classes = plan.answer.job.get("classes") or []
        classes = [category.name for category in manifest.categories]
        if job_classes and classes != list(job_classes):
            found = f"{directory}: classes {', '.join(classes)}; expected the job's: {', '.join(job_classes)}"
            checks.append(Check(f"data {index}", ERROR, found))
        else:
            checks.append(Check(f"data {index}", OK, found))
    return checks


def check_checkpoint(plan: Plan) -> List[Check]:
    """Read what the server would begin with, whole: its sum is checked, too."""
    checks = []
    if plan.pre_trained and not Path(plan.pre_trained).is_file():
        checks.append(Check("pre-trained", ERROR, f"--pre_trained is {plan.pre_trained}: no such file"))
    if plan.role != SERVER:
        return checks
    directory = plan.checkpoint_dir
    if directory is None:
        return [*checks, Check("checkpoint", ERROR, "--checkpoint_dir is not given; expected the model's directory")]
    there = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if not os.access(there, os.W_OK):
        return [*checks, Check("checkpoint", ERROR, f"--checkpoint_dir {directory}: this user cannot write in {there}")]
    try:
        path = newest_checkpoint(directory, plan.config.fl_name)
    except UserError as error:
        return [*checks, Check("checkpoint", ERROR, str(error))]
    if path is not None:
        info = read_checkpoint(path)[1]
        return [*checks, Check("checkpoint", OK, f"{path.name}: the job goes on after round {info.round}")]
    if plan.model_yaml:
        return [*checks, Check("checkpoint", OK, f"none in {directory}: the server makes round 0's from --config")]
    found = f"none of job {plan.config.fl_name!r} in {directory}; expected one, or --config to make it from"
    return [*checks, Check("checkpoint", ERROR, found)]


def check_silos(plan: Plan) -> List[Check]:
    """Look whether the job knows the workers' silos."""
    names = plan.config.silo_names
    unknown = [silo for silo in plan.silos if names and silo not in names]
    if plan.role != WORKER:
        return []
    if unknown:
        found = f"silos does not name {', '.join(unknown)}; expected one of {', '.join(names)}"
        return [Check("silo", ERROR, found)]
    if plan.count > plan.config.num_silos:
        return [Check("silo", WARNING, f"{plan.count} workers, but the job has {plan.config.num_silos} silos")]
    return [Check("silo", OK, ", ".join(plan.silos))]
