"""The nodes that a cluster has: a file of names, or what ``kubectl get nodes -o yaml`` or ``-o json`` prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, FrozenSet, List

import yaml

from cross_silo.errors import UserError
from cross_silo.sedna.names import name_fault


def read_nodes(path: str) -> FrozenSet[str]:
    """Return the names in the file at ``path`` (``-``: standard input): a name a line, a YAML list, or a NodeList.

    Raises:
        UserError: it cannot be read, or something in it is no node's name.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"--nodes {path}: {error.strerror}") from None
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--nodes {path}: cannot be read ({' '.join(str(error).split())})") from None
    names = _names(content)
    if not names:
        raise UserError(f"--nodes {path}: names no node; expected a name a line, or kubectl get nodes -o yaml")
    for name in names:
        if not isinstance(name, str) or name_fault(name):
            raise UserError(f"--nodes {path}: {name!r} is no node's name; expected names, or a list of Node resources")
    return frozenset(names)


def _names(content: Any) -> List[Any]:
    if isinstance(content, str):
        return content.split()
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        items = content["items"] if isinstance(content.get("items"), list) else [content]
        return [(item.get("metadata") or {}).get("name") if isinstance(item, dict) else item for item in items]
    return []
