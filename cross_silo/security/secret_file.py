"""Files that hold a secret: made so that nobody else can read them, and refused where somebody could."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cross_silo.errors import UserError

SECRET_MODE = 0o600
ROOT_SECRET_MODE = 0o640
"""Files of root may be read by a group, as secrets that a container is given are."""


def write_secret(path: Path, content: bytes, mode: int = SECRET_MODE) -> None:
    """Write ``content`` beside ``path``, with ``mode`` from the start, and move it there."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask is
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check_secret(path: Path, what: str) -> None:
    """Refuse a file with a secret that is not there, or that others may read. Raises UserError naming ``what``."""
    try:
        status = path.stat()
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from None
    allowed = ROOT_SECRET_MODE if status.st_uid == 0 else SECRET_MODE
    mode = status.st_mode & 0o777
    if mode & ~allowed:
        raise UserError(f"{what} {path} has mode {mode:o}, others could read it; expected {SECRET_MODE:o}: chmod 600")
