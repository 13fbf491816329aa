"""A silo's feature shards in an object storage: ``prefix/job/silo/shard-{sha256}``, checked on both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Optional

from cross_silo.mistnet.offer import place_name
from cross_silo.objects import Credentials, Entry, fetch, listing, put, remove


class ObjectPlace:
    """Where one silo's shards are. A key has the content's hash: nothing is ever overwritten by something else."""

    def __init__(self, prefix: str, fl_name: str, silo: str, credentials: Optional[Credentials] = None) -> None:
        """Args: ``credentials`` are those of the object store; None: those of the environment."""
        self.prefix = f"{prefix.rstrip('/')}/{fl_name}/{place_name(silo)}/"
        self._credentials = credentials

    def url(self, sha256: str) -> str:
        """Return where the shard with this content is."""
        return f"{self.prefix}shard-{sha256}"

    def put(self, path: Path, entry: Mapping[str, Any], again: bool = False) -> None:
        """Put one file, unless it is there already. Raises UserError.

        Args:
            entry: the manifest's, with bytes and sha256.
            again: put it even where one of the same name and size is there.
        """
        url = self.url(entry["sha256"])
        there = {} if again else {found.url.rpartition("/")[2]: found.size for found in self._listing()}
        if there.get(url.rpartition("/")[2]) != entry["bytes"]:
            put(path, url, self._credentials)

    def fetch(self, sha256: str, target: Path) -> None:
        """Bring one file to ``target``, whole or not at all. Raises UserError."""
        fetch(self.url(sha256), target, self._credentials, sha256=sha256)

    def remove(self) -> int:
        """Remove all of the silo's shards; return how many there were. Raises UserError."""
        entries = self._listing()
        for entry in entries:
            remove(entry.url, self._credentials)
        return len(entries)

    def _listing(self) -> List[Entry]:
        return listing(self.prefix, self._credentials)
