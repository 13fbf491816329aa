"""From a YAML mapping to typed settings: unknown keys, wrong types and out-of-range values are refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import os
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    Mapping,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import yaml

from cross_silo.errors import UserError

T = TypeVar("T")


def read_yaml(path: Union[str, os.PathLike], _seen: Tuple[Path, ...] = ()) -> Dict[str, Any]:
    """Read a YAML mapping; its key ``base`` names a file (relative to this one) whose keys it overrides.

    Raises:
        UserError: the file cannot be read, is no mapping, or its bases form a circle.
    """
    file = Path(path).resolve()
    if file in _seen:
        raise UserError(f"{file}: key 'base' leads back to this file")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"configuration file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{path}: found {type(content).__name__}, expected a mapping of key: value")
    base = content.pop("base", None)
    if base is None:
        return content
    return merge(read_yaml(file.parent / str(base), (*_seen, file)), content)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Dict[str, Any]:
    """Return ``base`` with the values of ``over``; mappings are merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def unknown_key(key: str, known: Iterable[str], where: str) -> UserError:
    """Return the error for a key that nothing reads, with the nearest known one."""
    near = difflib.get_close_matches(key.rpartition(".")[2], [k.rpartition(".")[2] for k in known], n=1, cutoff=0.5)
    full = [k for k in known if near and k.rpartition(".")[2] == near[0]]
    return UserError(f"{where}: unknown key {key!r}" + (f"; did you mean {full[0]!r}?" if full else ""))


def build(cls: Type[T], values: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """Make the dataclass ``cls`` from ``values``, checking keys and types; nested dataclasses from mappings.

    Args:
        where: the file, for error messages.
        prefix: dotted path of this mapping inside the file, ending in a dot.

    Raises:
        UserError: an unknown or missing key, a value of another type, or one that ``cls`` refuses.
    """
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            raise unknown_key(prefix + key, [prefix + name for name in fields], where)
        arguments[key] = _convert(hints[key], value, where, prefix + key)
    for name, field in fields.items():
        if name not in arguments and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: required key {prefix + name!r} is missing")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise UserError(f"{where}: {prefix}{error}") from None


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    """Return ``value`` as ``hint`` asks; YAML lists become tuples, whole numbers become floats."""
    if dataclasses.is_dataclass(hint):
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise _wrong_type(where, key, value, "a mapping")
        return build(hint, value, where, key + ".")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:
        if value is None and type(None) in arguments:
            return None
        errors = []
        for candidate in arguments:
            if candidate is type(None):
                continue
            try:
                return _convert(candidate, value, where, key)
            except UserError as error:
                errors.append(error)
        raise errors[0]
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong_type(where, key, value, "a list")
        inner = arguments[0]
        if arguments[-1] is not Ellipsis and len(arguments) != len(value):
            raise UserError(f"{where}: {key} has {len(value)} values, expected {len(arguments)}")
        return tuple(_convert(inner, item, where, f"{key}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        try:  # YAML 1.1 reads 1e-4, without a dot, as text
            return float(value)
        except ValueError:
            pass
    if hint in (int, float, bool, str) and type(value) is not hint:
        raise _wrong_type(
            where,
            key,
            value,
            {int: "a whole number", float: "a number", bool: "true or false"}.get(hint, "text"),
        )
    return value


def _wrong_type(where: str, key: str, value: Any, expected: str) -> UserError:
    return UserError(f"{where}: {key} is {value!r} ({type(value).__name__}), expected {expected}")


def require(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless ``condition``; for ``__post_init__`` of settings."""
    if not condition:
        raise ValueError(message)
