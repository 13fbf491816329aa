"""A silo's features on disk: MindRecord files of bits, labels and names, and a manifest that is written last."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple, Union

import numpy as np

from cross_silo.data.coco import write_json
from cross_silo.data.mindrecord_reader import annotation_rows, read_files
from cross_silo.errors import UserError
from cross_silo.mistnet.spec import FeatureSpec

MANIFEST_NAME = "manifest.json"
FORMAT, VERSION = "cross_silo.features", 1
SCHEMA: Mapping[str, Mapping[str, Any]] = {
    "bits": {"type": "bytes"},
    "labels": {"type": "float32", "shape": [-1, 6]},
    "id": {"type": "string"},
}
"""All that a record holds. ``labels``: x1, y1, x2, y2 in pixels of the network's input, class index, crowd."""
INDEX_SUFFIX = ".db"
NAME = re.compile(r"[0-9a-f]{64}")
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class FeatureRecord:
    """One image."""

    bits: np.ndarray
    """uint8 (ceil(r / 8),): the bits of (C, H, W), C-order, packed as numpy's packbits does."""
    labels: np.ndarray
    """float32 (n, 6): x1, y1, x2, y2 in pixels of the network's input, contiguous class index, 1 for a crowd region."""
    id: str
    """HMAC-SHA256 of the image under the silo's secret, hex."""


@dataclass(frozen=True)
class ShardFile:
    """A file of the directory: MindRecord's, or its index beside it."""

    name: str
    bytes: int
    sha256: str
    images: int
    """Records; 0 for an index."""


@dataclass(frozen=True)
class FeatureManifest:
    """What a directory of features holds."""

    spec: FeatureSpec
    count: int
    """Images."""
    files: Tuple[ShardFile, ...]

    def to_json(self) -> Dict[str, Any]:
        """Return what stands in ``manifest.json``."""
        files = [asdict(file) for file in self.files]
        return {"format": FORMAT, "version": VERSION, **self.spec.terms(), "count": self.count, "files": files}

    @classmethod
    def from_json(cls, content: Any, where: str) -> "FeatureManifest":
        """Return what ``content`` says; it may come from anybody. Raises UserError naming ``where``."""
        found = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
        if found != (FORMAT, VERSION):
            raise UserError(f"{where}: found format {found!r:.80}; expected {(FORMAT, VERSION)}")
        spec = FeatureSpec.from_terms(content, where)
        try:
            files = tuple(ShardFile(**entry) for entry in content["files"])
            count = content["count"]
            sound = type(count) is int and count == sum(file.images for file in files)
            sound = sound and count > 0 and all(os.path.basename(file.name) == file.name for file in files)
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise UserError(f"{where}: its list of files is damaged; expected a manifest of features")
        return cls(spec, count, files)


def write_manifest(directory: Path, manifest: FeatureManifest) -> None:
    """Write the manifest of ``directory``."""
    write_json(str(directory / MANIFEST_NAME), manifest.to_json(), indent=1)


def read_manifest(directory: Union[str, "os.PathLike[str]"]) -> FeatureManifest:
    """Read the manifest of a directory of features.

    Raises:
        UserError: there is none, it is damaged, or a file is missing or of another size.
    """
    path = Path(directory) / MANIFEST_NAME
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a silo's finished features") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as json ({error})") from None
    manifest = FeatureManifest.from_json(content, str(path))
    for file in manifest.files:
        found = Path(directory) / file.name
        if not found.is_file() or found.stat().st_size != file.bytes:
            raise UserError(f"{found}: expected a file of {file.bytes} bytes")
    return manifest


def shard_files(directory: Path, name: str, images: int) -> List[ShardFile]:
    """Return the entries of a MindRecord file of ``images`` records and of its index."""
    entries = []
    for file, count in ((name, images), (name + INDEX_SUFFIX, 0)):
        digest = hashlib.sha256()
        with open(directory / file, "rb", buffering=0) as content:
            for block in iter(lambda: content.read(READ_BYTES), b""):
                digest.update(block)
        entries.append(ShardFile(file, (directory / file).stat().st_size, digest.hexdigest(), count))
    return entries


class FeatureShards:
    """Reads a silo's features by image number. Holds nothing of them."""

    def __init__(self, directory: Union[str, "os.PathLike[str]"]) -> None:
        """Open ``directory``. Raises UserError where it is not whole."""
        self.directory = Path(directory)
        self.manifest = read_manifest(directory)
        self.spec = self.manifest.spec
        self._paths = [str(self.directory / file.name) for file in self.manifest.files if file.images]

    def __len__(self) -> int:
        return self.manifest.count

    def record(self, index: int) -> FeatureRecord:
        """Return the image ``index``, from 0."""
        return next(self.records([index]))

    def records(self, indices: Sequence[int]) -> Iterator[FeatureRecord]:
        """Give the images ``indices``, in this order; one call for many is much faster than many calls.

        Raises:
            UserError: a record is not what the manifest says.
        """
        for record in read_files(self._paths, indices, list(SCHEMA)):
            yield self._checked(
                np.frombuffer(record["bits"].tobytes(), np.uint8), annotation_rows(record, "labels"), str(record["id"])
            )

    def _checked(self, bits: np.ndarray, labels: np.ndarray, name: str) -> FeatureRecord:
        """Refuse what would spoil a training: a silo can write anything."""
        spec = self.spec
        found = ""
        if len(bits) != spec.packed_bytes:
            found = f"{len(bits)} bytes of bits, expected {spec.packed_bytes}"
        elif not NAME.fullmatch(name):
            found = f"id {name!r:.80}, expected 64 hex digits"
        elif labels.ndim != 2 or labels.shape[1] != 6 or not np.isfinite(labels).all():
            found = "labels that are not finite rows of 6"
        elif len(labels):
            x1, y1, x2, y2, label, crowd = labels.T
            inside = (x1 >= 0) & (y1 >= 0) & (x2 <= spec.width) & (y2 <= spec.height) & (x1 < x2) & (y1 < y2)
            known = np.isin(label, np.arange(len(spec.categories))) & np.isin(crowd, (0, 1))
            if not (inside & known).all():
                found = f"label {labels[np.argmin(inside & known)].tolist()}, expected a box inside {spec.width} x "
                found += f"{spec.height} pixels, a class below {len(spec.categories)} and crowd 0 or 1"
        if found:
            raise UserError(f"{self.directory}: image {name[:12]}: {found}")
        return FeatureRecord(bits, labels, name)
