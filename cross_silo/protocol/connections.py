"""The open connections of a service, each with a time until which its peer must have done what is awaited of it."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Callable, List, Optional, Set

HEADER_SECONDS = 10.0
"""From a connection's start, TLS handshake included, or a request's first byte, to the end of its headers."""
IDLE_SECONDS = 30.0
"""From the end of a request to the next one on the same connection."""
STALL_SECONDS = 30.0
"""Silence of a peer in the middle of a message, and the least time that a whole message has."""
SLOWEST_BYTES_PER_SECOND = 64 << 10
"""A message of n bytes has n / this seconds more."""


class Connection:
    """One peer. It waits for a request (and may be given up for another peer), or is in one."""

    def __init__(self, sock: socket.socket, host: str, clock: Callable[[], float]) -> None:
        self.sock = sock
        self.host = host
        self.idle_seconds = IDLE_SECONDS
        """From the end of a request to the next one."""
        self._clock = clock
        self.await_request(HEADER_SECONDS)

    def keep(self, seconds: float) -> None:
        """Let the peer be silent for so long between requests: it cannot connect again."""
        self.idle_seconds = seconds
        self.sock.settimeout(seconds)

    def await_request(self, seconds: float) -> None:
        """A request must be there, with all of its headers, within ``seconds``."""
        self.waits, self.since = True, self._clock()
        self.deadline = self.since + seconds

    def work(self) -> None:
        """The service is busy with a request: nothing is awaited of the peer."""
        self.waits, self.deadline = False, math.inf

    def transfer(self, size: int) -> None:
        """``size`` bytes go over the line."""
        self.waits, self.deadline = False, self._clock() + STALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND

    def cut(self) -> None:
        """Break it off; the thread that reads or writes sees its end."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Connections:
    """All of a service's connections, at most ``most`` at once. Thread-safe."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._open: Set[Connection] = set()

    def add(self, sock: socket.socket, host: str) -> Optional[Connection]:
        """Take a new one; where there is no room, the one that waits longest for a request makes it.

        Returns:
            None where all are in a request.
        """
        made = Connection(sock, host, self._clock)
        with self._lock:
            if len(self._open) >= self._most:
                waiting = [one for one in self._open if one.waits]
                if not waiting:
                    return None
                oldest = min(waiting, key=lambda one: one.since)
                self._open.discard(oldest)
                oldest.cut()
            self._open.add(made)
        return made

    def remove(self, connection: Connection) -> None:
        """Forget one that is about to be closed."""
        with self._lock:
            self._open.discard(connection)

    def expire(self) -> None:
        """Break off those whose time is over."""
        now = self._clock()
        for connection in self._all():
            if connection.deadline < now:
                connection.cut()

    def busy(self) -> bool:
        """Tell whether a request is in progress."""
        return any(not one.waits for one in self._all())

    def cut_all(self) -> None:
        """Break off all."""
        for connection in self._all():
            connection.cut()

    def _all(self) -> List[Connection]:
        with self._lock:
            return list(self._open)
