"""A download that is never taken for whole before it is: beside its place, checked, then moved there.

What came before a broken connection, or before the process was killed, is kept beside the target with the object's
tag, and is taken up again if the object is still the same.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Union

from cross_silo.errors import UserError
from cross_silo.launch.lock import file_lock
from cross_silo.launch.record import read_json, write_json
from cross_silo.launch.user_dir import user_dir
from cross_silo.objects.credentials import Credentials
from cross_silo.objects.http import open_http
from cross_silo.objects.location import FILE, HTTP, Location, locate
from cross_silo.objects.stored import BrokenError, ChangedError, Opened
from cross_silo.protocol.retry import Retrier, RetryPolicy

log = logging.getLogger(__name__)

CHUNK = 2**20
PROGRESS = 2**16
"""Bytes after which a connection that breaks counts as one that did its part: the patience begins anew."""
PATIENCE = 120.0
"""Seconds without progress after which a transfer is given up."""
LOCK_SECONDS = 3600.0
"""Another process may be fetching the same."""

Open = Callable[[int, str], Opened]


def fetch(
    url: str,
    target: Union[str, Path],
    credentials: Optional[Credentials] = None,
    sha256: str = "",
    patience: float = PATIENCE,
) -> Path:
    """Bring the object at ``url`` to the file ``target`` and return that path.

    Its size is checked, and its SHA-256: ``sha256``, or the one that :func:`put` left with the object; else the MD5
    that the store tells, where it does. A target that agrees with such a checksum stays as it is.

    Args:
        credentials: of the object store; None: those of the environment.
        patience: seconds without progress after which the transfer is given up.

    Raises:
        UserError: no such object, access is refused, the content is not the expected one, or the connection stays
            broken. What came is kept for the next call.
    """
    place, path = locate(url), Path(target)
    try:
        if place.kind == FILE and path.exists() and path.samefile(place.key):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
        with file_lock(user_dir("objects") / name, LOCK_SECONDS):
            _Download(place, path, opener(place, credentials), sha256, patience).run()
    except OSError as error:  # of this machine's files; what a connection does is told otherwise
        raise UserError(f"{error.filename or path}: {error.strerror}") from None
    return path


def opener(place: Location, credentials: Optional[Credentials]) -> Open:
    """Return what opens the object at an offset. Raises UserError: an object store is meant, and there is no key."""
    if place.kind == FILE:
        return lambda start, tag: _open_file(place)
    if place.kind == HTTP:
        return lambda start, tag: open_http(place, start, tag)
    if not place.key or place.key.endswith("/"):
        raise UserError(f"{place} names no object; expected s3://{place.bucket}/key")
    from cross_silo.objects.s3 import open_store

    store = open_store(credentials or Credentials.from_env())
    return lambda start, tag: store.open(place, start, tag)


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file's content."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


class _Download:
    """One object on its way to one file."""

    def __init__(self, place: Location, target: Path, open_at: Open, sha256: str, patience: float) -> None:
        self._place, self._target, self._open = place, target, open_at
        self._sha256 = sha256.lower()
        self._retrier = Retrier(RetryPolicy(first=0.5, longest=10.0, deadline=patience))
        self._patience = patience
        beside = hashlib.sha256(place.url.encode()).hexdigest()[:8]
        self._part = target.with_name(f".{target.name}.{beside}.part")
        self._note = target.with_name(f"{self._part.name}.json")

    def run(self) -> None:
        """Fetch it, check it, and move it to its place."""
        try:
            while not self._retrier.run(self._attempt, on=(BrokenError,)):
                pass
        except BrokenError as error:
            raise UserError(
                f"{self._place}: the connection stays broken for {self._patience:g} s: {error}; "
                f"{self._had()} bytes are kept and taken up by the next try"
            ) from None

    def _attempt(self) -> bool:
        """Go on as far as the connection lasts. False: it broke, but not before it did its part."""
        note = read_json(self._note) or {}
        tag = str(note.get("tag", ""))
        had = self._had() if tag else 0
        if had and note.get("size") == had:
            had -= 1  # it broke between the last byte and the check; a range must have one byte
        try:
            opened = self._open(had, tag)
        except ChangedError:
            log.info("%s is not what it was: its download begins anew", self._place)
            self._forget()
            opened = self._open(0, "")
        try:
            if opened.start == 0 and self._is_there(opened):
                self._forget()
                return True
            self._copy(opened)
        except BrokenError as error:
            log.warning("%s broke after %d bytes: %s", self._place, self._had(), error)
            if self._had() - had < PROGRESS:
                raise
            return False
        finally:
            opened.close()
        self._check(opened)
        os.replace(self._part, self._target)
        self._forget()
        return True

    def _copy(self, opened: Opened) -> None:
        """Write what comes to the part, and say beforehand what it is a part of."""
        write_json(self._note, {"url": str(self._place), "tag": opened.tag, "size": opened.size})
        with open(self._part, "r+b" if opened.start else "wb") as part:
            part.seek(opened.start)
            part.truncate()
            while True:
                chunk = opened.read(CHUNK)
                if not chunk:
                    break
                part.write(chunk)
            part.flush()
            os.fsync(part.fileno())
            came = part.tell()
        if opened.size is not None and came < opened.size:
            raise BrokenError(f"it ended after {came} of {opened.size} bytes")

    def _check(self, opened: Opened) -> None:
        """Refuse a content that is not the expected one, and forget it. Raises UserError."""
        size = self._had()
        facts: Dict[str, Any] = {}
        if opened.size is not None and size != opened.size:
            facts["size"] = (size, opened.size)
        wanted = self._sha256 or opened.sha256
        if wanted:
            facts["SHA-256"] = (file_digest(self._part, "sha256"), wanted)
        elif opened.md5:
            facts["MD5"] = (file_digest(self._part, "md5"), opened.md5)
        for name, (found, expected) in facts.items():
            if found != expected:
                self._forget()
                raise UserError(f"{self._place}: {name} of what came is {found}, expected {expected}")

    def _is_there(self, opened: Opened) -> bool:
        """Tell whether the target is the object already, by a checksum."""
        if not self._target.is_file() or self._target.stat().st_size != (opened.size or -1):
            return False
        wanted = self._sha256 or opened.sha256
        if wanted:
            return file_digest(self._target, "sha256") == wanted
        return bool(opened.md5) and file_digest(self._target, "md5") == opened.md5

    def _had(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _open_file(place: Location) -> Opened:
    """Open a file of this machine, from its beginning. Raises UserError."""
    try:
        file = open(place.key, "rb")  # noqa: SIM115 - who reads it closes it
        size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{place}: {error.strerror}") from None
    return Opened(0, size, "", file.read, file.close)
