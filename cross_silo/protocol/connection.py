"""One HTTP exchange of a worker with the aggregator, on a connection of its own."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Union

from cross_silo.errors import UserError
from cross_silo.protocol.layout import aligned_bytes
from cross_silo.protocol.schema import MAX_MESSAGE_BYTES
from cross_silo.protocol.tls_stream import TlsStream

PIECE_BYTES = 1 << 20
"""Bytes of a body a call of the socket; a time-out counts from piece to piece."""
SMALL_BYTES = 65_536
"""Replies up to this size are returned as bytes of their own."""

OnHead = Callable[[int, Mapping[str, str]], None]
"""Told a reply's status and headers."""


class TransportError(Exception):
    """The exchange did not come to its end: no connection, a peer that stalled or left."""


@dataclass
class Reply:
    """A reply; ``body`` may lie in the receive buffer."""

    status: int
    headers: Mapping[str, str]
    body: Union[bytes, memoryview]
    content_type: str


class ReceiveBuffer:
    """Memory for large replies, reused from one to the next."""

    def __init__(self) -> None:
        self._bytes = aligned_bytes(0)

    def take(self, size: int) -> memoryview:
        """Return ``size`` bytes; what an earlier call returned is overwritten."""
        if len(self._bytes) < size:
            self._bytes = aligned_bytes(0)  # the old one may go before the new one comes
            self._bytes = aligned_bytes(size)
        return memoryview(self._bytes)[:size]


def exchange(
    host: str,
    port: int,
    path: str,
    body: Optional[Union[bytes, memoryview]],
    headers: Mapping[str, str],
    timeout: float,
    receive: Optional[ReceiveBuffer] = None,
    context: Optional[ssl.SSLContext] = None,
    on_head: Optional[OnHead] = None,
) -> Reply:
    """Send one request (GET without a body, else POST) and return its reply.

    Args:
        timeout: seconds of silence after which the server counts as gone.
        receive: where a large reply goes; without it a large reply is an error.
        context: for TLS.
        on_head: called with the reply's status and headers before its body is received.

    Raises:
        TransportError: there was no complete reply.
        UserError: one side does not accept the other's certificate, or does not speak TLS.
    """
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            stream = TlsStream(connection.sock, context, server_side=False, host=host)
            stream.do_handshake()
            connection.sock = stream  # type: ignore[assignment]
        _send(connection, path, body, headers)
        response = connection.getresponse()
        if on_head is not None:
            on_head(response.status, response.headers)
        content = _body(response, receive)
        return Reply(response.status, response.headers, content, response.headers.get("Content-Type", ""))
    except (OSError, http.client.HTTPException) as error:
        refusal = _refusal(error, f"{host}:{port}") if isinstance(error, ssl.SSLError) else ""
        if refusal:
            raise UserError(refusal) from None
        raise TransportError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _refusal(error: ssl.SSLError, address: str) -> str:
    """Say which side does not trust the other; empty where the connection only broke."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the server at {address} is not accepted: {error.verify_message} (auth.dir)"
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return f"the server at {address} does not speak TLS; expected auth.mode and enable_ssl as in its YAML"
    if "ALERT" in reason:
        what = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"the server at {address} does not accept this silo's certificate: {what} (auth.dir)"
    return ""


def _send(
    connection: http.client.HTTPConnection,
    path: str,
    body: Optional[Union[bytes, memoryview]],
    headers: Mapping[str, str],
) -> None:
    connection.putrequest("GET" if body is None else "POST", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Connection", "close")
    if body is None:
        connection.endheaders()
        return
    connection.putheader("Content-Type", "application/octet-stream")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    try:
        for start in range(0, len(body), PIECE_BYTES):
            connection.sock.sendall(body[start : start + PIECE_BYTES])
    except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        pass  # a server that does not want the body has answered already; if it has not, there is no reply


def _body(response: http.client.HTTPResponse, receive: Optional[ReceiveBuffer]) -> Union[bytes, memoryview]:
    length = response.length
    if length is None:
        raise http.client.HTTPException("the reply has no Content-Length")
    if length <= SMALL_BYTES:
        return response.read()
    if receive is None or length > MAX_MESSAGE_BYTES:
        raise http.client.HTTPException(f"the reply has {length} bytes")
    view = receive.take(length)
    done = 0
    while done < length:
        count = response.readinto(view[done : done + PIECE_BYTES])
        if not count:
            raise http.client.IncompleteRead(b"", length - done)
        done += count
    return view
