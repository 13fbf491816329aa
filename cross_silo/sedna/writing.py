"""Writes the configuration files of a role's plan, each whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Union

import yaml

from cross_silo.errors import UserError
from cross_silo.sedna.plan import AggregatorPlan, TrainerPlan


def write_files(plan: Union[AggregatorPlan, TrainerPlan]) -> None:
    """Write the federated and the model YAML of ``plan``. Raises UserError where they cannot be written."""
    for path, text in file_texts(plan).items():
        write_text(path, text)


def file_texts(plan: Union[AggregatorPlan, TrainerPlan]) -> Dict[str, str]:
    """Return the content of the files of ``plan``, by path."""
    texts = {plan.federated_file: to_yaml(plan.federated), plan.model_file: to_yaml(plan.model)}
    dataset = plan.dataset if isinstance(plan, TrainerPlan) else plan.evaluation
    if dataset is not None and dataset.classes:
        texts[dataset.classes_file] = "".join(f"{name}\n" for name in dataset.classes)
    if isinstance(plan, AggregatorPlan) and plan.classes_file:
        categories = [{"id": number, "name": name} for number, name in enumerate(plan.classes, 1)]
        texts[plan.classes_file] = json.dumps({"images": [], "annotations": [], "categories": categories}) + "\n"
    return texts


def write_text(path: str, text: str) -> None:
    """Write ``text`` beside ``path`` and move it there. Raises UserError."""
    file = Path(path)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, file)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return ``content`` as YAML, its keys in their order."""
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=120)
