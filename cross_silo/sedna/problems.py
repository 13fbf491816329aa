"""What is wrong in manifests, all of it at once, in Kubernetes' words where it has some."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, List, Mapping, Tuple

from pydantic import ValidationError

from cross_silo.errors import UserError
from cross_silo.sedna.forms import FORMS, MISSPELT
from cross_silo.sedna.podspec import QUANTITY
from cross_silo.sedna.resources import QUANTITY_ERROR

TYPES = {
    "string_type": "string",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
    "int_type": "integer",
    "bool_type": "boolean",
}
"""What a field has to be, by pydantic's error."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    subject: str
    """Kind/name."""
    path: str
    reason: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.subject, self.path, self.reason) if part)
        return " ".join(text.splitlines())


class ManifestError(UserError):
    """All that is wrong in manifests, a line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["the manifests cannot be used:", *map(str, self.problems)]))


def invalid(value: Any, why: str) -> str:
    """Return Kubernetes' reason for a value of the right type that is refused."""
    return f"Invalid value: {json.dumps(value, ensure_ascii=False)}: {why}"


def not_found(kind: str, name: str) -> str:
    """Return Kubernetes' words for a resource that is not there."""
    return f'{_plural(kind)} "{name}" not found'


def already_exists(kind: str, name: str) -> str:
    """Return Kubernetes' words for a resource that is there twice."""
    return f'{_plural(kind)} "{name}" already exists'


def _plural(kind: str) -> str:
    return f"{kind.lower()}s{'' if kind == 'Secret' else '.sedna.io'}"


def dotted(location: Iterable[Any]) -> str:
    """Return the path of a place in a manifest: ``spec.trainingWorkers[0].dataset``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def from_validation(error: ValidationError, subject: str, with_extensions: bool) -> List[Problem]:
    """Return what a model refuses, in Kubernetes' words."""
    return [_one(entry, subject, with_extensions) for entry in error.errors(include_url=False)]


def _one(entry: Mapping[str, Any], subject: str, with_extensions: bool) -> Problem:
    location: Tuple[Any, ...] = entry["loc"]
    path, kind, found = dotted(location), entry["type"], entry["input"]
    if kind == "missing":
        return Problem(subject, path, "Required value")
    if kind == "extra_forbidden":
        reason = f'strict decoding error: unknown field "{path}"'
        hint = field_hint(str(location[-1]), with_extensions)
        return Problem(subject, "", f"{reason}; {hint}" if hint else reason)
    if path == "spec.trainingWorkers" and isinstance(found, dict):
        why = (
            "the object with replicas is a form that was only proposed and is not supported; expected a list of workers"
        )
        return Problem(subject, path, f'Invalid value: "object": {why}')
    if kind == QUANTITY_ERROR:
        if not isinstance(found, (str, int)) or isinstance(found, bool):
            return Problem(subject, path, type_reason(path, found, "integer or string"))
        return Problem(subject, path, invalid(found, f"{path} in body should match '{QUANTITY}'"))
    if kind in TYPES:
        return Problem(subject, path, type_reason(path, found, TYPES[kind]))
    return Problem(subject, path, entry["msg"])


def type_reason(path: str, found: Any, expected: str) -> str:
    """Return Kubernetes' reason for a value of another type than ``expected``."""
    name = type_name(found)
    return f'Invalid value: "{name}": {path} in body must be of type {expected}: "{name}"'


def type_name(value: Any) -> str:
    """Return the type of a YAML value as an OpenAPI schema calls it."""
    names = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for type_, name in names if isinstance(value, type_)), "null")


PROPOSED = {
    *FORMS,
    *("model_name", "framework", "model_config", "pretrained"),
    *("data_params", "download_url", "num_classes", "image_size", "classes", "dataset", "model", "name"),
}
"""Fields of Sedna's proposals."""


def field_hint(name: str, with_extensions: bool) -> str:
    """Return what to do about an unknown field; empty where nothing is known of it."""
    if name in MISSPELT:
        right = MISSPELT[name]
        return f"a misspelt field of a proposal, written so with --extensions: {FORMS[right]}"
    if name == "platoConfig":
        return f"it was proposed and turned down; expected {FORMS[name]}"
    if name in PROPOSED and not with_extensions:
        form = f": {FORMS[name]}" if name in FORMS else ""
        return f"a field that was only proposed; --extensions reads it{form}"
    return ""
