"""``python -m cross_silo.launch.free_ports 3`` prints three ports of 127.0.0.1 that nothing listens on."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from typing import List


def free_ports(count: int) -> List[int]:
    """Return ``count`` different free ports; another process may take one before it is used."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def adjoining_ports(count: int) -> int:
    """Return the first of ``count`` free ports that follow one another."""
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for follower in range(port + 1, port + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", follower))
            except (OSError, OverflowError):  # one is taken, or there are no more
                continue
            return port


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
