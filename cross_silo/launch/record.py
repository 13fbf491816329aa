"""Small JSON files that one process writes and others read at any moment: never seen half-written."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Dict, Mapping, Optional


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` beside ``path`` and move it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path) -> Optional[Dict[str, Any]]:
    """Return the mapping in ``path``; None if there is no such file or it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
