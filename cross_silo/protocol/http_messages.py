"""What passes between a service and its handlers: requests, responses, errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Union

from cross_silo.config.auth import SILO
from cross_silo.protocol.access import Identity
from cross_silo.protocol.connections import Connection

PIECE_BYTES = 1 << 20
"""Body bytes a call of the socket; a time-out counts from piece to piece."""
SMALL_BODY_BYTES = 65_536


class HttpError(Exception):
    """Answered with ``status`` and ``{"error": message}``."""

    def __init__(self, status: int, message: str) -> None:
        """Args: ``message`` is one line."""
        super().__init__(message)
        self.status = status


@dataclass
class Response:
    """What a handler returns."""

    status: int = 200
    body: Union[bytes, memoryview] = b""
    content_type: str = "application/octet-stream"
    headers: Mapping[str, str] = field(default_factory=dict)
    head: bytes = b""
    """Of a body in two parts, the first one."""
    sent: Optional[Callable[[int], None]] = None
    """Called with the body bytes that left, however the sending ended."""
    settle: Optional[Callable[[], bool]] = None
    """Called before the end of the body is sent; False: the reply is withdrawn, the peer sees it broken off."""


def json_response(content: Any, status: int = 200, headers: Optional[Mapping[str, str]] = None) -> Response:
    """Return a response of one JSON value."""
    return Response(status, json.dumps(content).encode(), "application/json", headers or {})


def text_response(text: str, headers: Optional[Mapping[str, str]] = None) -> Response:
    """Return a response of plain text, as the engine sends its short notices."""
    return Response(200, text.encode(), "text/html", headers or {})


class Request:
    """One request; its body is read by whoever needs it."""

    def __init__(self, method: str, path: str, length: int, headers: Any, body: Any, connection: Connection) -> None:
        """Made by the service: ``headers`` and ``body`` (a file) are those on ``connection``."""
        self._headers = headers
        self._body = body
        self.connection = connection
        """The one that it came on."""
        self.method = method
        self.path = path
        self.length = length
        """Bytes of the body."""
        self.unread = length
        """Bytes of the body that are still on the way."""
        self.identity: Optional[Identity] = None
        """Who asks; None where nobody is asked who they are."""

    def check_silo(self, silo: str) -> None:
        """Refuse a request in the name of a silo by anybody but that silo. Raises HttpError."""
        if self.identity is not None and self.identity != Identity(SILO, silo):
            raise HttpError(403, f"{self.identity} asks in the name of silo {silo[:64]!r}")

    def header(self, name: str) -> Optional[str]:
        """Return a header's value or None."""
        return self._headers.get(name)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes of the body. Raises OSError where the peer stalls or leaves."""
        if len(view) > self.unread:
            raise ValueError(f"{len(view)} bytes wanted of {self.unread}")
        if self.unread == self.length:
            self.connection.transfer(self.length)
        done = 0
        while done < len(view):
            count = self._body.readinto(view[done : done + PIECE_BYTES])
            if not count:
                raise ConnectionError(f"the peer left after {self.length - self.unread} of {self.length} bytes")
            done += count
            self.unread -= count
        if not self.unread:
            self.connection.work()

    def body(self, limit: int = SMALL_BODY_BYTES) -> bytes:
        """Return the whole body. Raises HttpError where it is larger than ``limit``."""
        if self.length > limit:
            raise HttpError(413, f"body of {self.length} bytes, expected at most {limit}")
        content = bytearray(self.length)
        self.read_into(memoryview(content))
        return bytes(content)

    def json(self, limit: int = SMALL_BODY_BYTES) -> Dict[str, Any]:
        """Return the body as a JSON object. Raises HttpError where it is none, or larger than ``limit``."""
        try:
            content = json.loads(self.body(limit).decode("utf-8"))
        except (ValueError, RecursionError):
            raise HttpError(400, "the body is not valid JSON") from None
        if not isinstance(content, dict):
            raise HttpError(400, "the body is not a JSON object")
        return content


Route = Callable[[Request], Response]
