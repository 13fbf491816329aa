"""Kills the process that it is in at a point of a round: ``FAULT`` is ``point:n``, for the n-th time it is reached.

``FAULT_MARK`` is a file that the kill leaves behind: whoever is started again with the same environment lives.
"""

import os
import signal
import socket
from pathlib import Path


def hit(point, count=[0]):  # noqa: B006 - counts the calls of this process
    """Be killed here if this is the point and the time."""
    wanted, _, n = os.environ.get("FAULT", "").partition(":")
    mark = Path(os.environ.get("FAULT_MARK", ""))
    if point != wanted or mark.exists():
        return
    count[0] += 1
    if count[0] == int(n):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def around(owner, name, before="", after=""):
    """Have ``owner.name`` hit points before and after it does its work."""
    inner = getattr(owner, name)

    def outer(*arguments, **options):
        hit(before)
        result = inner(*arguments, **options)
        hit(after)
        return result

    setattr(owner, name, outer)


def send_half(host, port, path, body):
    """Begin an upload as the client would, and be killed in the middle of it."""
    if os.environ.get("FAULT", "").startswith("uploading:"):
        with socket.create_connection((host, port), timeout=10) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + bytes(body[: len(body) // 2]))
            hit("uploading")
