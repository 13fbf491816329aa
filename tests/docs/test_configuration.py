"""docs/configuration.md has a row for every key, with its default and the meaning that the code gives it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import faster_rcnn.settings
import yolo.settings
from cross_silo.config.federated import FederatedConfig
from cross_silo.config.model import ModelConfig

DOC = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
CLASSES = (FederatedConfig, ModelConfig, faster_rcnn.settings.Settings, yolo.settings.Settings)


def docstrings(cls):
    """Return the string under each field of a dataclass."""
    [definition] = ast.parse(inspect.getsource(cls)).body
    found = {}
    for field, text in zip(definition.body, definition.body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def rows(cls, prefix=""):
    """Return the table rows of a settings class, those of its sections last."""
    meanings = docstrings(cls)
    own, sections = [], []
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(field.default_factory):
            sections += rows(field.default_factory, f"{prefix}{field.name}.")
            continue
        required = field.default is dataclasses.MISSING
        default = "required" if required else f"`{json.dumps(field.default)}`"
        own.append(f"| `{prefix}{field.name}` | {default} | {meanings[field.name]} |")
    return own + sections


@pytest.mark.parametrize("cls", CLASSES)
def test_every_key_stands_in_the_document(cls):
    lines = set(DOC.read_text(encoding="utf-8").splitlines())
    missing = [row for row in rows(cls) if row not in lines]
    assert not missing, "\n".join(missing)


def test_the_document_has_no_other_keys():
    known = {row for cls in CLASSES for row in rows(cls)}
    found = [line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert [line for line in found if line not in known] == []
