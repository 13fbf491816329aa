"""The directory of this user on this machine that holds locks and records of running processes."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from cross_silo.errors import UserError

VARIABLE = "CROSS_SILO_RUNTIME_DIR"
"""Environment variable that names another directory."""


def user_dir(*parts: str) -> Path:
    """Return the directory (made if need be, for this user alone), or the one below it that ``parts`` name.

    It is under the temporary directory rather than XDG_RUNTIME_DIR, which goes away when the user logs out although
    background processes stay.
    """
    root = Path(os.environ.get(VARIABLE) or os.path.join(tempfile.gettempdir(), f"cross_silo-{os.getuid()}"))
    remedy = f"set {VARIABLE} to another one"
    own_dir(root, remedy)
    return own_dir(root.joinpath(*parts), remedy)


def own_dir(directory: Path, remedy: str) -> Path:
    """Return ``directory``, made if need be; raises UserError, with the ``remedy``, if others may write it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except OSError as error:
        raise UserError(f"directory {error.filename}: {error.strerror}; {remedy}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UserError(f"{directory} is not a directory that only this user writes; remove it or {remedy}")
    return directory
