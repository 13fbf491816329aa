"""All objects below a prefix, as files of a directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Optional, Union

from cross_silo.errors import UserError
from cross_silo.objects.credentials import Credentials
from cross_silo.objects.download import PATIENCE, fetch
from cross_silo.objects.location import S3, locate, shown
from cross_silo.objects.upload import listing

AT_ONCE = 8
"""Objects that are on their way at once."""


def fetch_all(
    url: str, directory: Union[str, Path], credentials: Optional[Credentials] = None, patience: float = PATIENCE
) -> Path:
    """Bring every object below ``url`` to ``directory``, under the rest of its key, and return that directory.

    A second call fetches what is missing or has changed.

    Raises:
        UserError: there is nothing, a key would lead out of the directory, or as :func:`fetch`.
    """
    prefix, target = url.rstrip("/") + "/", Path(directory)
    if locate(url).kind != S3:
        raise UserError(f"{shown(url)} has no listing of what is below it; expected s3://bucket/prefix")
    entries = [entry for entry in listing(prefix, credentials, patience) if not entry.url.endswith("/")]
    if not entries:
        raise UserError(f"{shown(prefix)}: there is no object below it")
    names = [_name_below(entry.url, prefix, target) for entry in entries]

    def bring(url: str, name: PurePosixPath) -> None:
        fetch(url, target / name, credentials, patience=patience)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(bring, [entry.url for entry in entries], names))
    return target


def _name_below(url: str, prefix: str, target: Path) -> PurePosixPath:
    """Return the rest of a key after ``prefix`` as a path. Raises UserError where it would lead elsewhere."""
    rest = url[len(prefix) :]
    name = PurePosixPath(rest)
    if name.is_absolute() or ".." in name.parts or "\\" in rest or "\0" in rest:
        raise UserError(f"{shown(url)} would be a file outside of {target}; expected no '..' in keys")
    return name
