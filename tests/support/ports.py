"""Ports of this machine that nothing listens at."""

import contextlib
import socket


def adjoining_ports(count):
    """Return the first of ``count`` ports of 127.0.0.1 that follow one another."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                first = stack.enter_context(socket.socket())
                first.bind(("127.0.0.1", 0))
                port = first.getsockname()[1]
                for index in range(1, count):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port + index))
            except (OSError, OverflowError):
                continue
            return port
