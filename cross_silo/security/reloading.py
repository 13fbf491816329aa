"""What is read from files, read again when they are replaced: certificates and tokens change without a restart."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Callable, Generic, Tuple, TypeVar

from cross_silo.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Reloading(Generic[T]):
    """Holds what ``make`` made of ``files``. Thread-safe."""

    def __init__(self, make: Callable[[], T], files: Tuple[Path, ...]) -> None:
        """Make it. Raises what ``make`` raises."""
        self._make = make
        self._files = files
        self._lock = threading.Lock()
        self._seen = self._look()
        self._made = make()

    def get(self) -> T:
        """Return what the files hold now; what they held before where they cannot be used."""
        with self._lock:
            found = self._look()
            if found != self._seen:
                self._seen = found
                try:
                    self._made = self._make()
                    log.info("read anew: %s", ", ".join(map(str, self._files)))
                except UserError as error:
                    log.error("what was read before stays in use: %s", error)
            return self._made

    def _look(self) -> Tuple[Tuple[int, int], ...]:
        found = []
        for path in self._files:
            try:
                status = os.stat(path)
                found.append((status.st_mtime_ns, status.st_ino))
            except OSError:
                found.append((0, 0))
        return tuple(found)
