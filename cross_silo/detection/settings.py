"""Checks of a detector's settings and input; each error names the key."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cross_silo.errors import UserError

if TYPE_CHECKING:
    from cross_silo.detector import InputSize


def check_size(size: "InputSize", stride: int) -> None:
    """Refuse an input that ``stride``, the coarsest level's, does not divide, and one without classes."""
    for key, pixels in (("img_height", size.height), ("img_width", size.width)):
        if pixels <= 0 or pixels % stride:
            raise UserError(f"{key}: found {pixels}; expected a multiple of {stride}")
    if size.num_classes < 1:
        raise UserError(f"num_classes: found {size.num_classes}; expected at least 1, background not counted")


def take_default_types(settings: Any) -> None:
    """Bring every field of a frozen dataclass to its default's type; for its ``__post_init__``."""
    for item in fields(settings):
        object.__setattr__(settings, item.name, typed(item.name, getattr(settings, item.name), item.default))


def typed(key: str, value: object, default: object) -> object:
    """Return ``value`` in its default's type; a list becomes a tuple, an int a float where that is meant."""
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{key}: found {value!r}; expected a list of {_kind(default)}")
        return tuple(typed(key, item, default[0]) for item in value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise UserError(f"{key}: found {value!r}; expected {type(default).__name__}")
    return value


def _kind(default: tuple) -> str:
    return "lists" if isinstance(default[0], tuple) else "numbers"


def at_least(key: str, value: float, least: float) -> None:
    """Refuse a number below ``least``."""
    if value < least:
        raise UserError(f"{key}: found {value}; expected at least {least}")


def one_of(key: str, value: str, choices: "tuple[str, ...]") -> None:
    """Refuse what is not among ``choices``."""
    if value not in choices:
        raise UserError(f"{key}: found {value!r}; expected one of {', '.join(choices)}")


def between(key: str, value: float, least: float, most: float) -> None:
    """Refuse a number outside ``least`` to ``most``."""
    if not least <= value <= most:
        raise UserError(f"{key}: found {value}; expected {least} to {most}")
