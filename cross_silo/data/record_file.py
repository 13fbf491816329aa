"""Writes one MindRecord file, many records a call."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from cross_silo.data.staging import sync_path


class RecordFile:
    """A MindRecord file that is being written; its index stands beside it as ``{path}.db``."""

    def __init__(
        self,
        path: str,
        schema: Mapping[str, Mapping[str, Any]],
        description: str,
        index: str,
        page_size: int,
        header_size: Optional[int] = None,
    ) -> None:
        """Open ``path``, where nothing may be yet.

        Args:
            index: name of the field by which records can be found.
            page_size: bytes, a power of two; a record lies within one page.
            header_size: bytes before the first page, a power of two; None: MindRecord's 16 MiB, mostly a hole.
        """
        from mindspore.mindrecord import FileWriter

        self._path = path
        self._writer = FileWriter(path)
        self._writer.add_schema(dict(schema), description)
        self._writer.add_index([index])
        if header_size is not None:
            self._writer.set_header_size(header_size)
        self._writer.set_page_size(page_size)
        if hasattr(self._writer, "_header"):
            self._writer._header = _RememberedHeader(self._writer._header)

    def write(self, rows: List[Dict[str, Any]]) -> None:
        """Write records."""
        count = len(rows)
        self._writer.write_raw_data(rows)
        if len(rows) != count:  # the writer drops what does not fit the schema, with a warning alone
            raise RuntimeError(f"MindRecord refused {count - len(rows)} of {count} records")

    def commit(self) -> None:
        """Finish the file and its index; both are on disk then."""
        self._writer.commit()
        sync_path(self._path)
        sync_path(f"{self._path}.db")


class _RememberedHeader:
    """Stands before a complete MindRecord header, which parses its schema anew at each of four looks a record."""

    def __init__(self, header: Any) -> None:
        self._header = header
        self.schema = header.schema
        self.blob_fields = header.blob_fields

    def __getattr__(self, name: str) -> Any:
        return getattr(self._header, name)
