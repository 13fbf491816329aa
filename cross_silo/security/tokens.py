"""Tokens: a random secret a silo, of which the services keep the hash alone."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Dict, Iterable, List

from cross_silo.config.auth import OPERATOR, SERVER, SILO, Auth
from cross_silo.errors import UserError
from cross_silo.protocol.access import token_hash
from cross_silo.security.secret_file import write_secret

TOKEN_BYTES = 32


def make_tokens(directory: Path, names: Iterable[str], rotate: Iterable[str] = ()) -> List[str]:
    """Write ``{name}.token`` for each of ``names`` that has none, or is to ``rotate``, and ``tokens.json`` for all.

    Returns:
        The names whose token is new.

    Raises:
        UserError: ``tokens.json`` is there and is not what this function writes.
    """
    files = Auth(dir=str(directory))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = _read(files.tokens_file)
    new = []
    for name in names:
        if name in known and name not in rotate:
            continue
        token = secrets.token_urlsafe(TOKEN_BYTES)
        role = name if name in (OPERATOR, SERVER) else SILO
        known[name] = {"name": name, "role": role, "sha256": token_hash(token)}
        write_secret(files.token_file(name), token.encode() + b"\n")
        new.append(name)
    write_secret(files.tokens_file, json.dumps(list(known.values()), indent=1).encode() + b"\n")
    return new


def _read(path: Path) -> Dict[str, Dict[str, str]]:
    if not path.exists():
        return {}
    try:
        return {item["name"]: item for item in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path}: expected names, roles and hashes, as this tool writes them") from None
