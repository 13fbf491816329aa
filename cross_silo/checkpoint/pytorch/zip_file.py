"""The zip archive that torch.save has written since PyTorch 1.6: a pickle, and one uncompressed record a storage."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from typing import Any, Dict, Optional, Tuple

from cross_silo.checkpoint.pytorch.records import SHOWN, RefusedError
from cross_silo.checkpoint.pytorch.storages import Storages
from cross_silo.checkpoint.pytorch.unpickle import MAX_BYTES, unpickle

MAGIC = b"PK\x03\x04"
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ENCRYPTED = 1
"""Bit of a record's flags."""
DAMAGES = (zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError, EOFError, OSError)
"""What zipfile raises for a file that is no archive."""


class Mapped(mmap.mmap):
    """A mapped file of which nobody reads very much at a time: a directory of records is short."""

    def read(self, size: Optional[int] = None) -> bytes:
        rest = self.size() - self.tell()
        wanted = rest if size is None or size < 0 else min(size, rest)
        if wanted > MAX_BYTES:
            raise RefusedError(f"its directory of records takes {wanted:,} bytes")
        return super().read(wanted)

    def seekable(self) -> bool:
        return True


class Archive:
    """The records of a mapped file by name, without the archive's own name before them.

    Raises:
        RefusedError: it is no archive of torch.save: damaged, compressed, or with records that share bytes.
    """

    def __init__(self, mapped: Mapped) -> None:
        self._data = memoryview(mapped)
        try:
            with zipfile.ZipFile(mapped) as archive:  # type: ignore[call-overload]
                entries = archive.infolist()
        except DAMAGES as error:
            raise RefusedError(f"its zip archive is damaged: {str(error)[:SHOWN]}") from None
        self._entries: Dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = entry.filename.partition("/")[2]
            if not name:
                continue  # what torch.save writes stands in a folder of the archive
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise RefusedError(f"its record {entry.filename[:SHOWN]!r} is compressed; torch.save does not")
            if entry.flag_bits & ENCRYPTED:
                raise RefusedError(f"its record {entry.filename[:SHOWN]!r} is encrypted")
            if name in self._entries:
                raise RefusedError(f"its record {entry.filename[:SHOWN]!r} stands there twice")
            self._entries[name] = entry
        if sum(entry.file_size for entry in entries) > len(self._data):
            raise RefusedError("its records share bytes: together they are larger than the file")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def record(self, name: str) -> memoryview:
        """Return a record's bytes, which lie in the mapped file; their CRC-32 is checked."""
        entry = self._entries.get(name)
        if entry is None:
            raise RefusedError(f"its record {name[:SHOWN]!r} is missing")
        start = entry.header_offset + LOCAL_HEADER.size
        head = bytes(self._data[max(entry.header_offset, 0) : start])
        if len(head) != LOCAL_HEADER.size or not head.startswith(MAGIC):
            raise RefusedError(f"its record {name[:SHOWN]!r} does not stand where the directory says")
        start += sum(LOCAL_HEADER.unpack(head)[-2:])
        content = self._data[start : start + entry.file_size]
        if len(content) != entry.file_size:
            raise RefusedError(f"its record {name[:SHOWN]!r} reaches beyond the file")
        if zlib.crc32(content) != entry.CRC:
            raise RefusedError(f"the CRC-32 of its record {name[:SHOWN]!r} does not agree with its content")
        return content


def read_zip(mapped: Mapped) -> Tuple[Any, Storages]:
    """Return what the archive's pickle describes, and its storages.

    Raises:
        RefusedError: it is no archive of torch.save, is damaged, or holds what is not read.
    """
    archive = Archive(mapped)
    if "constants.pkl" in archive:
        raise RefusedError("it is a TorchScript program (constants.pkl); expected what torch.save writes")
    content = archive.record("data.pkl")
    if len(content) > MAX_BYTES:
        raise RefusedError(f"its pickle has {len(content):,} bytes, expected at most {MAX_BYTES:,}")
    order = bytes(archive.record("byteorder")[:SHOWN]) if "byteorder" in archive else b"little"
    if order not in (b"little", b"big"):
        raise RefusedError(f"its byteorder is {order!r}; expected little or big")
    return unpickle(io.BytesIO(content)), Storages(lambda key: archive.record(f"data/{key}"), order == b"big")
