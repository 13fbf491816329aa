"""A member's heartbeat while its main thread is busy for minutes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import Any, Callable, Dict

import redis

from cross_silo.coordination import JobStore

BEAT_SECONDS = 60.0
"""A beat lives this long: compiling can keep the beating thread from running for half a minute."""


class Beat:
    """Keeps the process a live member of the job, in a thread."""

    def __init__(self, store: JobStore, role: str) -> None:
        self.status: Callable[[], Dict[str, Any]] = lambda: {"phase": "starting"}
        """Tells what the process does."""
        self._store = store
        self._role = role
        self._node = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beat", daemon=True)

    def __enter__(self) -> "Beat":
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(redis.RedisError):
            self._store.leave(self._role, self._node)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(redis.RedisError):  # the main thread tells of it
                self._store.beat(self._role, self._node, {"pid": os.getpid(), **self.status()}, BEAT_SECONDS)
            if self._stop.wait(BEAT_SECONDS / 12):
                return
