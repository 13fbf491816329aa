"""A small HTTP service of threads over the standard library, which reads large bodies straight into a buffer.

Base of the aggregator and of the scheduler: fixed routes, TLS and access by certificate or token, bounded headers,
bodies, connections and times.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
import time
from http.server import HTTPServer
from typing import Any, Mapping, Optional, Tuple

from cross_silo.config.federated import require_protected, split_address
from cross_silo.errors import UserError
from cross_silo.protocol.access import OPEN, Access
from cross_silo.protocol.connections import STALL_SECONDS, Connection, Connections
from cross_silo.protocol.http_handler import Handler
from cross_silo.protocol.http_messages import (
    PIECE_BYTES,
    SMALL_BODY_BYTES,
    HttpError,
    Request,
    Response,
    Route,
    json_response,
    text_response,
)
from cross_silo.protocol.limits import RateLimit
from cross_silo.protocol.tls_stream import TlsStream

__all__ = [
    "PIECE_BYTES",
    "HttpError",
    "HttpService",
    "Request",
    "Response",
    "Route",
    "json_response",
    "text_response",
]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 256
SPEAKS_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 43\r\n\r\n"
    b'{"error": "this address speaks TLS: https"}'
)
"""What a client hears that takes the service for one without TLS."""
COMPLAINTS = (1.0, 20)
"""Lines in the log about those that are not let in, and about those that break off: a second, and at once."""


class HttpService:
    """Serves ``routes`` on one address, a thread a connection."""

    def __init__(self, address: str, what: str, routes: Mapping[Tuple[str, str], Route], access: Access = OPEN) -> None:
        """Bind; requests are answered after :meth:`start`.

        Args:
            address: host:port; port 0 takes a free one.
            what: the flag or key that gave the address, for errors.
            routes: from (method, path) to what answers; other paths are 404, other methods 405.
            access: who is let in.

        Raises:
            UserError: the address is one that other machines reach and ``access`` does not protect it, or it cannot
                be bound.
        """
        if address.rpartition(":")[2] == "0":
            host, port = address.rpartition(":")[0].strip("[]"), 0
        else:
            host, port = split_address(address, what)
        require_protected(host, what, access.config)
        try:
            self._server = _Server((host, port), dict(routes), access)
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
        while self._server.connections.busy() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._server.connections.cut_all()


class _Server(HTTPServer):
    request_queue_size = 128

    def __init__(self, address: Tuple[str, int], routes: Mapping[Tuple[str, str], Route], access: Access) -> None:
        self.routes = routes
        self.paths = {path for _, path in routes}
        self.access = access
        self.connections = Connections(MAX_CONNECTIONS)
        self._complaints = RateLimit(*COMPLAINTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the name look-up of HTTPServer."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def service_actions(self) -> None:
        """Called by serve_forever several times a second."""
        self.connections.expire()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a connection's thread; its TLS handshake is made there, where it holds up nobody else."""
        connection = self.connections.add(request, client_address[0])
        if connection is None:
            self.complain("%d connections are open: one from %s is refused", MAX_CONNECTIONS, client_address[0])
            self.shutdown_request(request)
            return
        try:
            threading.Thread(target=self._serve, args=(connection, client_address), daemon=True).start()
        except RuntimeError:
            self.connections.remove(connection)
            raise

    def _serve(self, connection: Connection, client_address: Any) -> None:
        try:
            connection.sock.settimeout(STALL_SECONDS)
            context = self.access.context
            stream = connection.sock if context is None else self._shake_hands(connection, context)
            if stream is not None:
                Handler(connection, stream, client_address, self)
        except Exception:
            log.exception("connection from %s", connection.host)
        finally:
            self.connections.remove(connection)
            self.shutdown_request(connection.sock)

    def _shake_hands(self, connection: Connection, context: ssl.SSLContext) -> Optional[TlsStream]:
        """Make the TLS handshake; None where the peer is not let in."""
        try:
            stream = TlsStream(connection.sock, context, server_side=True)
            stream.do_handshake()
        except OSError as error:
            if getattr(error, "reason", "") == "HTTP_REQUEST":
                with contextlib.suppress(OSError):
                    connection.sock.sendall(SPEAKS_TLS)
            self.complain("%s is not let in: %s", connection.host, getattr(error, "verify_message", "") or error)
            self._drain(connection.sock)
            return None
        return stream

    @staticmethod
    def _drain(sock: socket.socket) -> None:
        """Take what the peer has sent: closing before that could lose the alert that tells it what is wrong."""
        try:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.5)
            sock.recv(SMALL_BODY_BYTES)
        except OSError:
            pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection from %s", client_address[0])

    def complain(self, message: str, *values: Any, level: int = logging.WARNING) -> None:
        """Tell the log of a peer that is not let in or breaks off, unless there were too many lines of late."""
        if self._complaints.allow(str(level)):
            log.log(level, message, *values)
