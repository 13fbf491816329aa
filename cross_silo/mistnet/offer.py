"""What a silo says of its feature shards before any byte of them comes: its manifest, checked."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

MAX_FILES = 4096
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
RESERVED = ("manifest.json", "offer.json")
PART = ".part"
"""Ending of a file that is not whole yet."""


class OfferError(ValueError):
    """A manifest that is none, or one of another job's features; the message says which entry, and both values."""


@dataclass(frozen=True)
class FeatureFile:
    """One file of a silo's features."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Offer:
    """A silo's manifest and the files that it lists."""

    manifest: Mapping[str, Any]
    files: Tuple[FeatureFile, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def count(self) -> int:
        """Images."""
        return int(self.manifest["count"])

    def file(self, name: str) -> FeatureFile:
        """Return one of the files. Raises OfferError."""
        for file in self.files:
            if file.name == name:
                return file
        raise OfferError(f"file {name[:64]!r} is not in the manifest")


def place_name(silo: str) -> str:
    """Return a name for a silo's directory: its own where that is a plain one."""
    return silo if PLAIN.fullmatch(silo) else hashlib.sha256(silo.encode("utf-8", "replace")).hexdigest()


def read_offer(manifest: Any, terms: Mapping[str, Any]) -> Offer:
    """Return what ``manifest`` lists.

    Args:
        manifest: from a silo: nothing in it is trusted.
        terms: what all silos of the job agree on; the manifest must say the same of each.

    Raises:
        OfferError: it lists no files, names that cannot stand side by side in a directory, or disagrees with a term.
    """
    if not isinstance(manifest, dict):
        raise OfferError("the manifest is no JSON object")
    for name, expected in terms.items():
        if name not in manifest or manifest[name] != expected:
            found = repr(manifest.get(name))
            raise OfferError(f"the manifest's {name} is {found:.80}, the job's is {expected!r:.80}")
    if type(manifest.get("count")) is not int or not 0 < manifest["count"] < 2**31:
        raise OfferError(f"the manifest's count is {manifest.get('count')!r:.40}, expected the number of images")
    entries = manifest.get("files")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_FILES:
        raise OfferError(f"the manifest lists no files, or more than {MAX_FILES}")
    files = tuple(_file(entry) for entry in entries)
    if len({file.name.lower() for file in files}) != len(files):
        raise OfferError("the manifest lists a file twice")
    return Offer(manifest, files)


def _file(entry: Any) -> FeatureFile:
    values: Dict[str, Any] = entry if isinstance(entry, dict) else {}
    name, size, digest = values.get("name"), values.get("bytes"), values.get("sha256")
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name) or name in RESERVED or name.endswith(PART):
        raise OfferError(f"file name {name!r:.80}: expected letters, digits, '.', '_' and '-'")
    if type(size) is not int or not 0 < size < 2**53:
        raise OfferError(f"file {name}: bytes is {size!r:.40}, expected more than 0")
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise OfferError(f"file {name}: sha256 is {digest!r:.80}, expected 64 hex digits")
    return FeatureFile(name, size, digest)
