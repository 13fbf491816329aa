"""The log of a role: lines on standard output, which its launcher appends to the role's log file."""

from __future__ import annotations

import logging
import sys


def start(role: str) -> None:
    """Log to standard output as ``2026-01-31 12:00:00 server_0 INFO message``, each line flushed."""
    handler = logging.StreamHandler(sys.stdout)
    name = role.replace("%", "%%")
    handler.setFormatter(logging.Formatter(f"%(asctime)s {name} %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
