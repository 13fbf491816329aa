"""Tables of the launcher: plain columns that neither a narrow terminal nor a pipe cuts."""

from __future__ import annotations

from typing import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return ``rows`` below ``head`` in columns as wide as their longest entry."""
    texts = [list(head)] + [[str(entry) for entry in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts)]
    return "\n".join("  ".join(entry.ljust(width) for entry, width in zip(row, widths)).rstrip() for row in texts)
