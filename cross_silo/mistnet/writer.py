"""Writes a silo's features shard by shard; an interrupted pass goes on after the last whole shard."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List, Sequence

from cross_silo.data.coco import write_json
from cross_silo.data.record_file import RecordFile
from cross_silo.data.staging import sync_path
from cross_silo.errors import UserError
from cross_silo.launch.record import read_json
from cross_silo.mistnet.features import (
    MANIFEST_NAME,
    SCHEMA,
    FeatureManifest,
    FeatureRecord,
    ShardFile,
    shard_files,
    write_manifest,
)
from cross_silo.mistnet.spec import FeatureSpec, check_same

SHARD_BYTES = 16 << 20
"""Bits of a shard: what an interrupted pass computes again, and an interrupted upload checks again, at most."""
HEADER_BYTES = 1 << 14
"""MindRecord's least; it holds some 150 bytes a page."""
MOST_PAGES = 32
"""About as many at most."""
SMALLEST_PAGE, LARGEST_PAGE = 1 << 15, 256 << 20
"""Bytes, MindRecord's; a record lies within one page, and what is left of a page stays empty."""
RECORDS_A_PAGE = 8
"""At least, where there are as many."""
PROGRESS_NAME = "progress.json"


class FeatureWriter:
    """Fills ``directory``, which is whole once its manifest stands there. One process at a time."""

    def __init__(self, directory: Path, spec: FeatureSpec, shard_bytes: int = SHARD_BYTES) -> None:
        """Open ``directory``, new or left by an interrupted pass.

        Raises:
            UserError: it holds features of another specification: bits are drawn once.
        """
        self.directory = directory
        self.spec = spec
        self.done = 0
        """Images on disk: the pass goes on with the next."""
        self._per_shard = max(1, shard_bytes // spec.packed_bytes)
        self._files: List[ShardFile] = []
        self._rows: List[Dict[str, Any]] = []
        directory.mkdir(parents=True, exist_ok=True)
        progress = read_json(directory / PROGRESS_NAME)
        if progress is not None:
            check_same(
                spec, FeatureSpec.from_terms(progress, str(directory / PROGRESS_NAME)), "this job", str(directory)
            )
            self._files = [ShardFile(**entry) for entry in progress["files"]]
            self.done = sum(file.images for file in self._files)
        else:
            self._note()  # before any bit is drawn, so that no other specification is taken for this directory
        kept = {file.name for file in self._files} | {PROGRESS_NAME}
        for left_over in set(os.listdir(directory)) - kept:
            os.remove(directory / left_over)

    def add(self, record: FeatureRecord) -> None:
        """Take the next image; a full shard is on disk when this returns."""
        if len(record.bits) != self.spec.packed_bytes:
            raise ValueError(f"{len(record.bits)} bytes of bits, expected {self.spec.packed_bytes}")
        self._rows.append({"bits": record.bits.tobytes(), "labels": record.labels, "id": record.id})
        if len(self._rows) == self._per_shard:
            self._flush()

    def finish(self) -> FeatureManifest:
        """Write what is left, then the manifest. Raises UserError where there was no image."""
        if self._rows:
            self._flush()
        if not self.done:
            raise UserError(f"{self.directory}: the silo has no images; expected at least one")
        manifest = FeatureManifest(self.spec, self.done, tuple(self._files))
        write_manifest(self.directory, manifest)
        sync_path(str(self.directory))
        os.remove(self.directory / PROGRESS_NAME)
        return manifest

    def _flush(self) -> None:
        name = f"features.{len(self._files) // 2:05d}.mindrecord"
        path = str(self.directory / name)
        page_size = _page_size([len(row["bits"]) + row["labels"].nbytes for row in self._rows])
        file = RecordFile(path, SCHEMA, "MistNet features", "id", page_size, HEADER_BYTES)
        file.write(self._rows)
        file.commit()
        self._files += shard_files(self.directory, name, len(self._rows))
        self.done += len(self._rows)
        self._rows = []
        self._note()

    def _note(self) -> None:
        """Leave what is on disk, for a later process."""
        content = {**self.spec.terms(), "files": [asdict(file) for file in self._files]}
        write_json(str(self.directory / PROGRESS_NAME), content)


def _page_size(sizes: Sequence[int]) -> int:
    """Return the page for records of these sizes in bytes."""
    wanted = max(min(RECORDS_A_PAGE, len(sizes)) * max(sizes), sum(sizes) // MOST_PAGES)
    page = SMALLEST_PAGE
    while page < 2 * max(sizes) or (page < wanted and page < LARGEST_PAGE):
        page *= 2
    return page


def is_whole(directory: Path) -> bool:
    """Tell whether ``directory`` holds finished features."""
    return (directory / MANIFEST_NAME).exists()
