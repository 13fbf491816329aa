"""What is known of an object, and what it is read through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional


class BrokenError(Exception):
    """The connection broke or the store is busy: worth another try. The message says what happened."""


class ChangedError(Exception):
    """The object is not the one that a download began with: it begins anew."""


@dataclass(frozen=True)
class Entry:
    """An object of a listing."""

    url: str
    size: int


@dataclass(frozen=True)
class Stored:
    """What was put."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Opened:
    """An object that is being read."""

    start: int
    """Offset of the first byte that :attr:`read` returns."""
    size: Optional[int]
    """Of the whole object; None: its source does not say, but its end is told for certain."""
    tag: str
    """Changes when the object does; empty: its source has none, and nothing can be taken up again."""
    read: Callable[[int], bytes]
    """Returns at most so many bytes, none at the end. Raises BrokenError."""
    close: Callable[[], None]
    sha256: str = ""
    """That its writer left; empty: none."""
    md5: str = ""
    """Where the store tells it."""
