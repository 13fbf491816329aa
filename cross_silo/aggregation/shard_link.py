"""How the first server asks one of the others: one small JSON request a step, models as plain bytes."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from cross_silo.aggregation.averaging import NonFiniteAverageError
from cross_silo.config.federated import split_address
from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.access import Credentials
from cross_silo.protocol.connection import ReceiveBuffer, Reply, TransportError, exchange

PREFIX = "/shard/"
TERM = "Cross-Silo-Term"
"""Request: which process of the first server asks, and for which instance of the job."""
NON_FINITE = 422
"""HTTP status: the mean is beyond float32."""
ASK_SECONDS = 10.0
"""Silence after which a small request is given up."""
WORK_SECONDS = 120.0
"""The same where the other server adds, divides or sends."""


class ServerLostError(Exception):
    """A server does not answer, or answers that it was restarted; the round cannot go on."""


class _Into(ReceiveBuffer):
    """Receives a reply where it belongs."""

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view = view

    def take(self, size: int) -> memoryview:
        return self._view[:size]


class ShardLink:
    """One server's address and name, and the requests to it. Thread-safe."""

    def __init__(self, index: int, address: str, shown: Credentials) -> None:
        """Args: ``shown`` is the server's own certificate or token."""
        self.index = index
        self.address = address
        self.name = f"server_{index}"
        self._shown = shown

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"

    def ask(self, step: str, seconds: float = ASK_SECONDS, **content: Any) -> Dict[str, Any]:
        """Ask for a step: ping, begin, expect, receipt, drop, add, prepare, commit or end.

        Raises:
            ServerLostError: there is no answer, or the step cannot be made.
            NonFiniteAverageError: the mean is beyond float32.
        """
        reply = self._exchange(step, json.dumps(content).encode(), {}, seconds)
        try:
            found = json.loads(bytes(reply.body))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerLostError(f"{self} does not answer as a server of this job does (HTTP {reply.status})")
        if reply.status == NON_FINITE:
            raise NonFiniteAverageError(str(found.get("error")))
        if reply.status != 200:
            raise ServerLostError(f"{self}: {found.get('error', reply.status)}")
        return found

    def send_model(self, term: str, tag: str, region: memoryview) -> None:
        """Give the server its tensors of the model ``tag``. Raises ServerLostError."""
        reply = self._exchange("serve", region, {TERM: term, headers.TAG: tag}, WORK_SECONDS)
        if reply.status != 200:
            raise ServerLostError(f"{self} does not take its model: {bytes(reply.body)[:300]!r}")

    def fetch_model(self, tag: str, region: memoryview) -> None:
        """Write the server's tensors of the model ``tag`` into ``region``. Raises ServerLostError."""
        reply = self._exchange("model", b"", {headers.TAG: tag}, WORK_SECONDS, _Into(region))
        if reply.status != 200 or len(reply.body) != len(region):
            raise ServerLostError(f"{self} does not send its model: HTTP {reply.status}, {len(reply.body)} bytes")
        if not isinstance(reply.body, memoryview):
            region[:] = reply.body

    def send_update(self, told: Mapping[str, str], parts: Union[bytes, memoryview]) -> Tuple[int, bytes]:
        """Forward a shard of an update; return status and body of the reply. Raises ServerLostError."""
        reply = self._exchange("/updateModel", parts, told, WORK_SECONDS)
        return reply.status, bytes(reply.body)

    def _exchange(
        self,
        step: str,
        body: Union[bytes, memoryview],
        told: Mapping[str, str],
        seconds: float,
        receive: Optional[ReceiveBuffer] = None,
    ) -> Reply:
        host, port = split_address(self.address, "address of a server")
        path = step if step.startswith("/") else PREFIX + step
        try:
            all_told = {**told, **self._shown.headers()}
            return exchange(host, port, path, body, all_told, seconds, receive, self._shown.context)
        except (TransportError, UserError) as error:
            raise ServerLostError(f"{self} does not answer: {error}") from None
