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


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
