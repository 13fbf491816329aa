"""The server's store of features: a directory a silo, whole only once its ``manifest.json`` stands there.

A file is received as ``{name}.part``, in order, and takes its name when its bytes have the SHA-256 of the manifest. So
whatever is killed, the next process goes on from what is there, and nothing half-received is taken for features.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any, Dict, Mapping

from cross_silo.checkpoint.replace import sync_directory
from cross_silo.data.coco import write_json
from cross_silo.errors import UserError
from cross_silo.launch.record import read_json
from cross_silo.mistnet.offer import PART, FeatureFile, Offer, OfferError, place_name, read_offer

MANIFEST, OFFER = "manifest.json", "offer.json"
ROOM_BYTES = 64 << 20
"""Bytes that stay free on the disk beside the features that are offered."""
READ_BYTES = 1 << 20


class DeliveryError(Exception):
    """What a silo sends is not taken; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class OffsetError(DeliveryError):
    """Bytes that do not follow those that are there."""

    def __init__(self, have: int, message: str) -> None:
        """Args: ``have`` is how many bytes of the file are there."""
        super().__init__(409, message)
        self.have = have


class FeatureStore:
    """The features of a job's silos. Thread-safe as long as each silo is served by one thread at a time."""

    def __init__(self, root: Path, terms: Mapping[str, Any]) -> None:
        """Open ``root``, made if need be.

        Args:
            terms: what every manifest must say.

        Raises:
            UserError: it holds features on other terms, or cannot be written.
        """
        self.root = root
        self.terms = dict(terms)
        self._offers: Dict[str, Offer] = {}
        self._lock = threading.Lock()
        try:
            root.mkdir(parents=True, exist_ok=True)
            for directory in sorted(path for path in root.iterdir() if path.is_dir()):
                self._take_over(directory)
        except OSError as error:
            raise UserError(f"features in {root}: {error.strerror}") from None

    def _take_over(self, directory: Path) -> None:
        """Know what an earlier server received."""
        record = read_json(directory / OFFER)
        if record is None:
            shutil.rmtree(directory)  # it was killed before the offer was written: nothing was received
            return
        try:
            self._offers[record["silo"]] = read_offer(record["manifest"], self.terms)
        except OfferError as error:
            raise UserError(
                f"{directory} holds features for another job: {error}; expected another --checkpoint_dir, or move it"
            ) from None
        self._settle(record["silo"])

    def _settle(self, silo: str) -> None:
        """Do what was left to do when a process was killed: files that are whole get their names."""
        for file in self.offered(silo).files:
            if _size(self.part(silo, file.name)) >= file.bytes:
                self.finish(silo, file.name)
        self._commit(silo)

    def directory(self, silo: str) -> Path:
        """Return where a silo's features are."""
        return self.root / place_name(silo)

    def offer(self, silo: str, manifest: Any) -> Dict[str, int]:
        """Note what a silo is about to send; return the bytes of each file that are here.

        An offer of other features than before begins anew, unless those before are whole: an image's bits are drawn
        once.

        Raises:
            DeliveryError: the manifest is refused, or there is no room for its files.
        """
        try:
            offered = read_offer(manifest, self.terms)
        except OfferError as error:
            raise DeliveryError(412, str(error)) from None
        known = self._offers.get(silo)
        directory = self.directory(silo)
        if known is None or known.manifest != offered.manifest:
            if self.is_whole(silo):
                raise DeliveryError(409, f"silo {silo!r} has delivered other features; expected the same, drawn once")
            room = shutil.disk_usage(self.root).free - ROOM_BYTES
            if offered.bytes > room:
                raise DeliveryError(507, f"no room for {offered.bytes} bytes of features: {max(room, 0)} are free")
            if directory.exists():
                shutil.rmtree(directory)
            directory.mkdir()
            write_json(str(directory / OFFER), {"silo": silo, "manifest": offered.manifest})
            with self._lock:
                self._offers[silo] = offered
        return {file.name: self.have(silo, file) for file in offered.files}

    def offered(self, silo: str) -> Offer:
        """Return what a silo has offered. Raises DeliveryError."""
        with self._lock:
            offer = self._offers.get(silo)
        if offer is None:
            raise DeliveryError(409, f"silo {silo!r} has offered no features yet")
        return offer

    def have(self, silo: str, file: FeatureFile) -> int:
        """Return how many bytes of a file are here."""
        directory = self.directory(silo)
        if (directory / file.name).exists():
            return file.bytes
        return _size(directory / (file.name + PART))

    def write(self, silo: str, name: str, offset: int, data: memoryview) -> int:
        """Append bytes to a file; return how many of it are here. Bytes that are here already change nothing.

        Raises:
            OffsetError: there is a gap before them, or the whole file turned out to be damaged and is begun anew.
            DeliveryError: nobody offered the file, or they are beyond its end.
        """
        file = self._file(silo, name)
        had = self.have(silo, file)
        if offset + len(data) > file.bytes or not len(data):
            raise DeliveryError(400, f"file {name}: {len(data)} bytes at {offset} of {file.bytes}")
        if offset + len(data) <= had:
            return had
        if offset != had:
            raise OffsetError(had, f"file {name}: found bytes from {offset} on, expected {had}")
        path = self.directory(silo) / (name + PART)
        with open(path, "ab", buffering=0) as part:
            part.write(data)
        had = _size(path)
        if had == file.bytes and not self.finish(silo, name):
            raise OffsetError(0, f"file {name} does not have the SHA-256 of the manifest: it is begun anew")
        return had

    def part(self, silo: str, name: str) -> Path:
        """Return where a file is received."""
        return self.directory(silo) / (self._file(silo, name).name + PART)

    def finish(self, silo: str, name: str) -> bool:
        """Give a received file its name; with the last one the silo's features are whole.

        Returns:
            False, and what was received is gone, where it is not the file of the manifest.
        """
        file = self._file(silo, name)
        directory = self.directory(silo)
        part = directory / (name + PART)
        if _size(part) != file.bytes or _sha256(part) != file.sha256:
            part.unlink(missing_ok=True)
            return False
        _sync(part)
        os.replace(part, directory / name)
        self._commit(silo)
        return True

    def _commit(self, silo: str) -> None:
        """Write the manifest, if all files are there."""
        directory, offer = self.directory(silo), self.offered(silo)
        if all((directory / file.name).exists() for file in offer.files) and not self.is_whole(silo):
            sync_directory(directory)
            write_json(str(directory / MANIFEST), offer.manifest)
            sync_directory(directory)

    def is_whole(self, silo: str) -> bool:
        """Tell whether all features of a silo are here."""
        return (self.directory(silo) / MANIFEST).exists()

    def whole(self) -> Dict[str, Offer]:
        """Return the silos whose features are all here, by name."""
        with self._lock:
            offers = dict(self._offers)
        return {silo: offers[silo] for silo in sorted(offers) if self.is_whole(silo)}

    def received(self) -> Dict[str, int]:
        """Return how many bytes of each silo's features are here."""
        with self._lock:
            offers = dict(self._offers)
        return {silo: sum(self.have(silo, file) for file in offer.files) for silo, offer in sorted(offers.items())}

    def _file(self, silo: str, name: str) -> FeatureFile:
        try:
            return self.offered(silo).file(name)
        except OfferError as error:
            raise DeliveryError(400, str(error)) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for block in iter(lambda: file.read(READ_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
