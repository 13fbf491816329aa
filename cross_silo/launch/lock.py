"""A lock between processes of one machine, which the kernel gives back when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Iterator

from cross_silo.errors import UserError


@contextlib.contextmanager
def file_lock(path: Path, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock at ``path``; raises UserError if another process keeps it longer than ``seconds``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(f"{path} has been locked by another process for {seconds:g} s") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
