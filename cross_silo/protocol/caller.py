"""How a worker asks its server: one exchange or one with retries, in its own name, each byte counted."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Dict, Mapping, Optional, Union

from cross_silo.config.federated import split_address
from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.access import Credentials
from cross_silo.protocol.connection import OnHead, ReceiveBuffer, Reply, TransportError, exchange
from cross_silo.protocol.messages import Message, decode
from cross_silo.protocol.replies import ServerUnreachable
from cross_silo.protocol.retry import Retrier, RetryPolicy
from cross_silo.protocol.verifier import InvalidMessageError

CALL_SECONDS = 60.0
"""Silence of the server in a call after which the call is tried again."""


class Caller:
    """One worker's requests. Thread-safe."""

    def __init__(self, address: str, silo: str, worker: str, retry: RetryPolicy, shown: Credentials) -> None:
        """Send nothing yet.

        Args:
            address: host:port of the server.
            worker: this process's id.
            shown: the silo's certificate or token.
        """
        self._host, self._port = split_address(address, "http_server_address")
        self._address = address
        self._silo, self._worker = silo, worker
        self._retrier = Retrier(retry)
        self._shown = shown
        self._counting = threading.Lock()
        self.bytes_up = 0
        """Body bytes sent."""
        self.bytes_down = 0
        """Body bytes received."""

    def _json(self, content: Mapping[str, Any]) -> bytes:
        return json.dumps({"silo": self._silo, "worker": self._worker, **content}).encode()

    def _post(self, path: str, **content: Any) -> Reply:
        return self._call(path, self._json(content))

    def _call(
        self,
        path: str,
        body: Optional[Union[bytes, memoryview]],
        more: Optional[Mapping[str, str]] = None,
        wait: float = 0.0,
        receive: Optional[ReceiveBuffer] = None,
        deadline: Optional[float] = None,
        on_head: Optional[OnHead] = None,
    ) -> Reply:
        """Exchange with retries; every request of this protocol may be sent twice. Raises ServerUnreachable."""
        began = time.monotonic()
        try:
            return self._retrier.run(
                lambda: self._exchange(path, body, more or {}, CALL_SECONDS + wait, receive, on_head),
                on=(TransportError,),
                deadline=deadline,
            )
        except TransportError as error:
            waited = time.monotonic() - began
            raise ServerUnreachable(f"no server answers at {self._address} for {waited:.0f} s: {error}") from None

    def _exchange(
        self,
        path: str,
        body: Optional[Union[bytes, memoryview]],
        more: Mapping[str, str],
        timeout: float,
        receive: Optional[ReceiveBuffer] = None,
        on_head: Optional[OnHead] = None,
    ) -> Reply:
        return self._ask_at(self._port, path, body, more, timeout, receive, on_head)

    def _ask_at(
        self,
        port: int,
        path: str,
        body: Optional[Union[bytes, memoryview]],
        more: Mapping[str, str],
        timeout: float,
        receive: Optional[ReceiveBuffer],
        on_head: Optional[OnHead] = None,
    ) -> Reply:
        told = {headers.WORKER: self._worker, **more} if self._worker else dict(more)
        told.update(self._shown.headers())
        reply = exchange(self._host, port, path, body, told, timeout, receive, self._shown.context, on_head)
        if reply.status in (429, 503):
            raise TransportError("the server is busy")
        with self._counting:
            self.bytes_up += len(body or b"")
            self.bytes_down += len(reply.body)
        return reply

    def _decode(self, reply: Reply, table: str) -> Message:
        if reply.status != 200:
            raise UserError(f"{self._address}: {content_of(reply, refused=(reply.status,)).get('error', reply.status)}")
        try:
            return decode(reply.body, table)
        except InvalidMessageError as error:
            raise UserError(f"{self._address} does not answer as an aggregation server does: {error}") from None


def content_of(reply: Reply, refused: tuple = ()) -> Dict[str, Any]:
    """Return a JSON reply's object. Raises UserError for a status that is neither 200 nor in ``refused``."""
    try:
        content = json.loads(bytes(reply.body))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"the server's reply (HTTP {reply.status}) is not JSON; is it an aggregation server?")
    if reply.status != 200 and reply.status not in refused:
        raise UserError(str(content.get("error", f"HTTP {reply.status}")))
    return content
