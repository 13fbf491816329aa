"""A file that is written beside its place and renamed into it: never half-written, also after a crash."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Iterator, Union


@contextlib.contextmanager
def written_beside(path: Union[str, os.PathLike], durable: bool = True) -> Iterator[int]:
    """Give a file descriptor to write to; what was written is at ``path`` when the block ends without an error.

    Args:
        durable: end only once file and name are on the disk itself.

    Raises:
        OSError: the disk refuses. After any error ``path`` is as it was before.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            yield descriptor
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Return once the names in ``directory`` are on the disk itself."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
