"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, ERROR, SKIPPED = "ok", "warning", "error", "skipped"
"""Error: the role would not start, or not last. Warning: it starts, but look. Skipped: it could not be told."""


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    what: str
    result: str
    found: str
    """What there is; of an error: and what is expected instead."""


def size(count: float) -> str:
    """Return a number of bytes as people write it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
