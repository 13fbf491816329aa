"""A small HTTP service of threads over the standard library, which reads large bodies straight into a buffer.

Base of the aggregator and of the scheduler: fixed routes, bounded bodies, time-outs for stalled peers.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, Callable, Dict, Mapping, Optional, Set, Tuple, Union

from cross_silo.config.federated import require_loopback, split_address
from cross_silo.errors import UserError

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
"""Body bytes a call of the socket; a time-out counts from piece to piece."""
SMALL_BODY_BYTES = 65_536
STALL_SECONDS = 30.0
"""Silence of a peer in the middle of a message after which its connection is closed."""
MAX_CONNECTIONS = 256
MAX_DISCARD_BYTES = 8 << 20
HELD_BYTES = 65_536
"""End of a body that is held back until the reply is settled."""


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

    def __init__(self, handler: "_Handler", path: str, length: int) -> None:
        """Made by the service."""
        self._handler = handler
        self.method: str = handler.command
        self.path = path
        self.length = length
        """Bytes of the body."""
        self.unread = length
        """Bytes of the body that are still on the way."""

    def header(self, name: str) -> Optional[str]:
        """Return a header's value or None."""
        return self._handler.headers.get(name)

    def read_into(self, view: memoryview) -> None:
        """Fill ``view`` with the next bytes of the body. Raises OSError where the peer stalls or leaves."""
        if len(view) > self.unread:
            raise ValueError(f"{len(view)} bytes wanted of {self.unread}")
        done = 0
        while done < len(view):
            count = self._handler.rfile.readinto(view[done : done + PIECE_BYTES])
            if not count:
                raise ConnectionError(f"the peer left after {self.length - self.unread} of {self.length} bytes")
            done += count
            self.unread -= count

    def body(self, limit: int = SMALL_BODY_BYTES) -> bytes:
        """Return the whole body. Raises HttpError where it is larger than ``limit``."""
        if self.length > limit:
            raise HttpError(413, f"body of {self.length} bytes, expected at most {limit}")
        content = bytearray(self.length)
        self.read_into(memoryview(content))
        return bytes(content)

    def json(self) -> Dict[str, Any]:
        """Return the body as a JSON object. Raises HttpError where it is none."""
        try:
            content = json.loads(self.body().decode("utf-8"))
        except (ValueError, RecursionError):
            raise HttpError(400, "the body is not valid JSON") from None
        if not isinstance(content, dict):
            raise HttpError(400, "the body is not a JSON object")
        return content


Route = Callable[[Request], Response]


class HttpService:
    """Serves ``routes`` on one address, a thread a connection."""

    def __init__(self, address: str, what: str, routes: Mapping[Tuple[str, str], Route]) -> None:
        """Bind; requests are answered after :meth:`start`.

        Args:
            address: host:port on loopback; port 0 takes a free one.
            what: the flag or key that gave the address, for errors.
            routes: from (method, path) to what answers; other paths are 404, other methods 405.

        Raises:
            UserError: the address is not loopback, or cannot be bound.
        """
        if address.rpartition(":")[2] == "0":
            host, port = address.rpartition(":")[0].strip("[]"), 0
        else:
            host, port = split_address(address, what)
        require_loopback(host, what)
        try:
            self._server = _Server((host, port), dict(routes))
        except OSError as error:
            raise UserError(f"{what}: cannot listen on {address}: {error.strerror or error}") from None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._server.server_address[1]}"
        """host:port that is served."""
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True)

    def start(self) -> None:
        """Answer requests from now on."""
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Accept nothing more; requests in progress get ``grace`` seconds."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        deadline = time.monotonic() + grace
        while self._server.busy() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._server.close_connections()


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: Tuple[str, int], routes: Mapping[Tuple[str, str], Route]) -> None:
        self.routes = routes
        self.paths = {path for _, path in routes}
        self._lock = threading.Lock()
        self._connections: Set[socket.socket] = set()
        self._requests = 0
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without the name look-up of HTTPServer."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Start a connection's thread, unless too many live."""
        with self._lock:
            full = len(self._connections) >= MAX_CONNECTIONS
            if not full:
                self._connections.add(request)
        if full:
            log.warning("%d connections are open: one from %s is refused", MAX_CONNECTIONS, client_address[0])
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection from %s", client_address[0])

    def count_request(self, change: int) -> None:
        with self._lock:
            self._requests += change

    def busy(self) -> bool:
        with self._lock:
            return self._requests > 0

    def close_connections(self) -> None:
        with self._lock:
            left = list(self._connections)
        for connection in left:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = STALL_SECONDS
    disable_nagle_algorithm = True
    server: _Server
    server_version = "cross-silo"
    sys_version = ""

    def do_GET(self) -> None:  # noqa: N802
        self._answer()

    def do_POST(self) -> None:  # noqa: N802
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def _answer(self) -> None:
        self.server.count_request(+1)
        try:
            self._route()
        except OSError as error:  # the peer stalled or left: nobody to answer
            self.close_connection = True
            log.info("%s %s from %s broken off: %s", self.command, self.path, self.client_address[0], error)
        finally:
            self.server.count_request(-1)

    def _route(self) -> None:
        path = self.path.partition("?")[0]
        request = None
        try:
            request = Request(self, path, self._body_length())
            route = self.server.routes.get((self.command, path))
            if route is None:
                known = path in self.server.paths
                raise HttpError(405 if known else 404, f"{self.command} {path} is not served"[:200])
            response = route(request)
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
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            raise HttpError(400, "Content-Length is not a number")
        return int(length)

    def _send(self, response: Response, unread: int) -> None:
        sent = 0
        try:
            if unread:
                self.close_connection = True
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Length", str(len(response.body)))
            for name, value in response.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            free = len(response.body) if response.settle is None else max(len(response.body) - HELD_BYTES, 0)
            while sent < len(response.body):
                if sent == free and response.settle is not None and not response.settle():
                    raise ConnectionAbortedError("the reply is withdrawn")
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
        self.connection.shutdown(socket.SHUT_WR)
        left = MAX_DISCARD_BYTES if unread < 0 else min(unread, MAX_DISCARD_BYTES)
        self.connection.settimeout(1.0)
        while left > 0:
            count = len(self.rfile.read1(min(left, PIECE_BYTES)))
            if not count:
                return
            left -= count
