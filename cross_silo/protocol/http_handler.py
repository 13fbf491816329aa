"""One connection's requests: headers within their bound, who asks, the route, the reply."""

from __future__ import annotations

import logging
import socket
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from typing import Any, Mapping, Optional, Protocol, Set, Tuple

from cross_silo.protocol.access import AUTHORIZATION, Access, AccessError
from cross_silo.protocol.connections import HEADER_SECONDS, Connection
from cross_silo.protocol.http_messages import PIECE_BYTES, HttpError, Request, Response, Route, json_response

log = logging.getLogger(__name__)

MAX_HEADER_BYTES = 16 << 10
"""Request line and headers together."""
MAX_DISCARD_BYTES = 8 << 20
HELD_BYTES = 65_536
"""End of a body that is held back until the reply is settled."""
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Services(Protocol):
    """What a handler needs of its server."""

    routes: Mapping[Tuple[str, str], Route]
    paths: Set[str]
    access: Access

    def complain(self, message: str, *values: Any, level: int = logging.WARNING) -> None:
        """Tell the log of a peer, unless it was told too much of late."""


class _Reader:
    """A connection's incoming bytes; lines, of which headers are made, are bounded in all."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.left = MAX_HEADER_BYTES
        """Bytes of lines that may still come."""
        self.readinto, self.read1, self.close = raw.readinto, raw.read1, raw.close

    @property
    def closed(self) -> bool:
        return self._raw.closed

    def readline(self, limit: int) -> bytes:
        line = self._raw.readline(min(limit, self.left + 1))
        self.left -= len(line)
        if self.left < 0:
            raise LineTooLong("headers")
        return line


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Services
    server_version = "cross-silo"
    sys_version = ""

    def __init__(self, connection: Connection, stream: Any, client_address: Any, server: Services) -> None:
        self.tracked = connection
        super().__init__(stream, client_address, server)  # type: ignore[arg-type]

    def setup(self) -> None:
        super().setup()
        self.rfile = _Reader(self.rfile)  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """Take one request's line and headers, and answer."""
        self.close_connection = True
        try:
            self.rfile.left = MAX_HEADER_BYTES  # type: ignore[attr-defined]
            try:
                self.raw_requestline = self.rfile.readline(MAX_HEADER_BYTES + 1)
            except LineTooLong:
                self.requestline, self.command = "", ""
                self.send_error(431, "the request line is too long")
                return
            if not self.raw_requestline:
                return
            self.tracked.await_request(HEADER_SECONDS)
            if not self.parse_request():
                return
            self.tracked.work()
            self._answer()
            self.tracked.await_request(self.tracked.idle_seconds)
        except OSError as error:  # the peer stalled or left: nobody to answer
            self.close_connection = True
            log.debug("connection from %s broken off: %s", self.tracked.host, error)

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """Refuse what is no request; BaseHTTPRequestHandler calls this with the status."""
        self.close_connection = True
        self.request_version = self.protocol_version  # whatever was read of it
        self._send(json_response({"error": message or explain or "bad request"}, int(code)), -1)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("%.300s", format % args)

    def _answer(self) -> None:
        try:
            self._route()
        except OSError as error:  # the peer stalled or left: nobody to answer
            self.close_connection = True
            what = self.command, self.path[:200], self.tracked.host, error
            self.server.complain("%s %s from %s broken off: %s", *what, level=logging.INFO)

    def _route(self) -> None:
        path = self.path.partition("?")[0]
        request = None
        try:
            request = Request(self.command, path, self._body_length(), self.headers, self.rfile, self.tracked)
            request.identity = self.server.access.admit(self.connection, path, self.headers.get(AUTHORIZATION))
            route = self.server.routes.get((self.command, path))
            if route is None:
                known = path in self.server.paths
                raise HttpError(405 if known else 404, f"{self.command} {path} is not served"[:200])
            response = route(request)
        except AccessError as error:
            self.server.complain("%s %s from %s: %s", self.command, path[:200], self.tracked.host, error)
            response = json_response({"error": str(error)}, error.status, CHALLENGE if error.status == 401 else None)
        except HttpError as error:
            response = json_response({"error": str(error)}, error.status)
        except OSError:
            raise
        except Exception:
            log.exception("%s %s", self.command, path)
            response = json_response({"error": "internal error; see the server's log"}, 500)
        self._send(response, request.unread if request is not None else -1)

    def _body_length(self) -> int:
        if self.headers.get("Transfer-Encoding"):
            raise HttpError(411, "Transfer-Encoding is not served; expected Content-Length")
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit() and len(length) < 19):
            raise HttpError(400, "Content-Length is not a number")
        return int(length)

    def _send(self, response: Response, unread: int) -> None:
        sent = 0
        try:
            if unread:
                self.close_connection = True
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Length", str(len(response.head) + len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.tracked.transfer(len(response.head) + len(response.body))
            if response.head:
                self.wfile.write(response.head)
            free = len(response.body) if response.settle is None else max(len(response.body) - HELD_BYTES, 0)
            while sent < len(response.body):
                if sent == free and response.settle is not None:
                    self.tracked.work()
                    if not response.settle():
                        raise ConnectionAbortedError("the reply is withdrawn")
                    self.tracked.transfer(HELD_BYTES)
                end = free if sent < free else len(response.body)
                piece = response.body[sent : min(sent + PIECE_BYTES, end)]
                self.wfile.write(piece)
                sent += len(piece)
            if unread:
                self._discard(unread)
        finally:
            if response.sent is not None:
                response.sent(sent)

    def _discard(self, unread: int) -> None:
        """Take a little of an unwanted body: a reset connection could lose the reply on its way to the peer."""
        self.tracked.transfer(0)
        self.tracked.sock.shutdown(socket.SHUT_WR)
        left = MAX_DISCARD_BYTES if unread < 0 else min(unread, MAX_DISCARD_BYTES)
        self.connection.settimeout(1.0)
        while left > 0:
            count = len(self.rfile.read1(min(left, PIECE_BYTES)))
            if not count:
                return
            left -= count
