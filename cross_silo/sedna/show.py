"""A plan as a shell script that does the same, and as JSON."""

from __future__ import annotations

import json
import shlex
from typing import List, Optional, Union

from cross_silo.objects import shown
from cross_silo.objects.credentials import ACCESS_KEY, ENDPOINT, SECRET_KEY
from cross_silo.sedna.environment import S3
from cross_silo.sedna.plan import AggregatorPlan, DatasetPlan, JobPlan, TrainerPlan
from cross_silo.sedna.writing import file_texts


def as_json(plan: JobPlan) -> str:
    """Return the plan as one JSON object."""
    return json.dumps(plan.document(), indent=2, ensure_ascii=False)


def as_shell(plan: JobPlan) -> str:
    """Return the files and commands of the plan, in their order, role by role."""
    lines = ["#!/bin/sh", f"# job {plan.name}, namespace {plan.namespace}"]
    lines += [_comment(f"note: {note}") for note in plan.notes]
    if plan.aggregator.transmitter == S3:
        lines.append(f"# of the transmitter's Secret, to be set before: {ENDPOINT}, {ACCESS_KEY}, {SECRET_KEY}")
    lines.append("set -e")
    aggregator = plan.aggregator
    lines += _heading("aggregator", aggregator.node)
    if aggregator.pre_trained != aggregator.pre_trained_url:
        lines.append(_comment(f"{shown(aggregator.pre_trained_url)} is fetched to {aggregator.pre_trained}"))
    lines += _files(aggregator) + _dataset(aggregator.evaluation) + _commands(aggregator)
    for trainer in plan.trainers:
        lines += _heading(f"training worker {trainer.client_id} ({trainer.silo})", trainer.node)
        lines += _files(trainer) + _dataset(trainer.dataset) + _commands(trainer)
    if aggregator.model_url:
        lines += ["", _comment(f"after the last round the model is written to {shown(aggregator.model_url)}")]
    return "\n".join(lines)


def _comment(text: str) -> str:
    """Return ``text`` as one line that a shell does not run."""
    return f"# {' '.join(text.split())}"


def _heading(role: str, node: str) -> List[str]:
    return ["", _comment(role + (f" on {node}" if node else ""))]


def _files(plan: Union[AggregatorPlan, TrainerPlan]) -> List[str]:
    files = file_texts(plan)
    directories = dict.fromkeys(path.rpartition("/")[0] for path in files)
    lines = [shlex.join(["mkdir", "-p", *directories])]
    for path, text in files.items():
        content, end = text.removesuffix("\n").split("\n"), "EOF"
        while end in content:
            end += "_"
        lines += [f"cat > {shlex.quote(path)} <<'{end}'", *content, end]
    return lines


def _dataset(dataset: Optional[DatasetPlan]) -> List[str]:
    if dataset is None:
        return []
    fetched = [_comment(f"{shown(dataset.url)} is fetched to {dataset.local}")] if dataset.local != dataset.url else []
    return [*fetched, shlex.join(dataset.command)]


def _commands(plan: Union[AggregatorPlan, TrainerPlan]) -> List[str]:
    """Return the launches in a shell of their own, where Sedna's variables are set."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in plan.environment.items() if name.isidentifier()]
    return ["(", *exports, *(shlex.join(command) for command in plan.commands), ")"]
