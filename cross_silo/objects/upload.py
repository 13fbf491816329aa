"""Putting, listing and removing objects; what was put is read back and compared before it counts as put."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Callable, List, Optional, TypeVar, Union

from cross_silo.errors import UserError
from cross_silo.objects.credentials import Credentials
from cross_silo.objects.download import CHUNK, PATIENCE, file_digest
from cross_silo.objects.location import FILE, HTTP, Location, locate
from cross_silo.objects.s3 import S3Store, open_store
from cross_silo.objects.stored import BrokenError, Entry, Stored
from cross_silo.protocol.retry import Retrier, RetryPolicy

T = TypeVar("T")


def put(
    path: Union[str, Path], url: str, credentials: Optional[Credentials] = None, patience: float = PATIENCE
) -> Stored:
    """Write the file ``path`` to ``url``, whole or not at all, and check size and SHA-256 of what is there then.

    Args:
        credentials: of the object store; None: those of the environment.
        patience: seconds from the first try to the last.

    Raises:
        UserError: ``path`` cannot be read, nothing can be written there, or what is there is not what was put.
    """
    place, source = locate(url), Path(path)
    if place.kind == HTTP:
        raise UserError(f"{place} cannot be written; expected s3:// or a path")
    try:
        stored = Stored(source.stat().st_size, file_digest(source, "sha256"))
        if place.kind == FILE:
            _put_file(source, Path(place.key))
            return stored
    except OSError as error:
        raise UserError(f"{error.filename or source}: {error.strerror}") from None
    if not place.key or place.key.endswith("/"):
        raise UserError(f"{place} names no object; expected s3://{place.bucket}/key")
    store = open_store(credentials or Credentials.from_env())

    def attempt() -> None:
        store.put(source, place, stored.sha256)
        found = _read_back(store, place)
        if found != stored:
            raise BrokenError(f"{found.size} bytes of SHA-256 {found.sha256} are there, {stored.size} were put")

    _patiently(attempt, place, patience)
    return stored


def listing(url: str, credentials: Optional[Credentials] = None, patience: float = PATIENCE) -> List[Entry]:
    """Return the objects (or files) below ``url``, by name; none where there is nothing. Raises UserError."""
    place = locate(url)
    if place.kind == HTTP:
        raise UserError(f"{place} cannot be listed; expected s3:// or a path")
    if place.kind == FILE:
        files = sorted(path for path in Path(place.key).rglob("*") if path.is_file())
        return [Entry(str(path), path.stat().st_size) for path in files]
    store = open_store(credentials or Credentials.from_env())
    return _patiently(lambda: store.listing(place), place, patience)


def remove(url: str, credentials: Optional[Credentials] = None, patience: float = PATIENCE) -> None:
    """Remove the object (or file) at ``url``; one that is not there counts as removed. Raises UserError."""
    place = locate(url)
    if place.kind == HTTP:
        raise UserError(f"{place} cannot be removed; expected s3:// or a path")
    if place.kind == FILE:
        try:
            Path(place.key).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{place}: {error.strerror}") from None
        return
    store = open_store(credentials or Credentials.from_env())
    _patiently(lambda: store.remove(place), place, patience)


def _patiently(call: Callable[[], T], place: Location, patience: float) -> T:
    try:
        return Retrier(RetryPolicy(first=0.5, longest=10.0, deadline=patience)).run(call, on=(BrokenError,))
    except BrokenError as error:
        raise UserError(f"{place}: given up after {patience:g} s: {error}") from None


def _read_back(store: S3Store, place: Location) -> Stored:
    """Return size and SHA-256 of what the store has now."""
    opened = store.open(place, 0, "")
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in iter(lambda: opened.read(CHUNK), b""):
            digest.update(chunk)
            size += len(chunk)
    finally:
        opened.close()
    return Stored(size, digest.hexdigest())


def _put_file(source: Path, target: Path) -> None:
    """Copy beside ``target``, then move there. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(source, "rb") as content, open(beside, "xb") as copy:
            shutil.copyfileobj(content, copy, CHUNK)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
