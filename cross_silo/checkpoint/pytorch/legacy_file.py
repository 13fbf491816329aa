"""The file that torch.save wrote before PyTorch 1.6: five pickles, then the storages one behind the other.

Magic number, protocol version, the writing machine, the object, the storages' keys; each storage is its count of
numbers (8 bytes) and the numbers.
"""

from __future__ import annotations

import io
from typing import Any, Dict, Tuple

from cross_silo.checkpoint.pytorch.records import SHOWN, RefusedError, Storage
from cross_silo.checkpoint.pytorch.storages import Storages, item_bytes
from cross_silo.checkpoint.pytorch.unpickle import MAX_BYTES, unpickle

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle of 0x1950a86a20f9469cfc6c."""
PROTOCOL = 1001
COUNT_BYTES = 8


def read_legacy(data: memoryview) -> Tuple[Any, Storages]:
    """Return what the file's pickle describes, and its storages.

    Raises:
        RefusedError: it is damaged, or holds what is not read.
    """
    stream = io.BytesIO(data[:MAX_BYTES])
    stream.seek(len(MAGIC))
    protocol, machine = unpickle(stream), unpickle(stream)
    if type(protocol) is not int or protocol != PROTOCOL or type(machine) is not dict:
        raise RefusedError(f"its protocol version is not {PROTOCOL}")
    big_endian = machine.get("little_endian") is False
    storages: Dict[str, Storage] = {}
    top, keys = unpickle(stream, storages), unpickle(stream)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise RefusedError("its list of storages is none")
    places: Dict[str, memoryview] = {}
    position = stream.tell()
    for key in keys:
        if key not in storages:
            raise RefusedError(f"its storage {key[:SHOWN]!r} belongs to no tensor")
        head = data[position : position + COUNT_BYTES]
        count = int.from_bytes(head, "big" if big_endian else "little")
        if count != storages[key].count:
            raise RefusedError(f"its storage {key[:SHOWN]!r} has {count} numbers, expected {storages[key].count}")
        position += COUNT_BYTES
        end = position + count * item_bytes(storages[key].element)
        if end > len(data):
            raise RefusedError(f"its storage {key[:SHOWN]!r} reaches beyond the file")
        places[key] = data[position:end]
        position = end

    def locate(key: str) -> memoryview:
        if key not in places:
            raise RefusedError(f"its storage {key[:SHOWN]!r} is missing")
        return places[key]

    return top, Storages(locate, big_endian)
