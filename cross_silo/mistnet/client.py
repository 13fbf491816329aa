"""The edge's side of the wire of a MistNet job: terms, extractor, feature shards."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping

from cross_silo.errors import UserError
from cross_silo.mistnet import wire
from cross_silo.protocol.client import AggregationClient, LeaseLost, ServerUnreachable
from cross_silo.protocol.connection import ReceiveBuffer, Reply, TransportError

LEASE_TRIES = 3


@dataclass(frozen=True)
class Standing:
    """What the server has of a silo's features."""

    have: Mapping[str, int]
    """Bytes by file."""
    whole: bool
    """Everything is there."""
    problem: str = ""
    """Why the server could not take it from the object storage; empty: nothing is known of a problem."""


class FeatureClient(AggregationClient):
    """Talks to a MistNet server for one worker; job, lease and heartbeat are those of any job."""

    def terms(self) -> Dict[str, Any]:
        """Ask what the job's silos agree on. Raises ServerUnreachable, and UserError where the job is no MistNet."""
        reply = self._call(wire.TERMS, None)
        if reply.status == 404:
            raise UserError(f"the server at {self._address} runs no MistNet job; expected algorithm: mistnet there too")
        return _content(reply)

    def extractor(self) -> bytes:
        """Return the file of the layers before the cut."""
        reply = self._call(wire.EXTRACTOR, None, receive=ReceiveBuffer())
        if reply.status != 200:
            _content(reply)
        return bytes(reply.body)

    def offer(self, manifest: Mapping[str, Any]) -> Standing:
        """Say what is about to come; return what is there already. Raises UserError where it is refused."""
        return self._tell(wire.OFFER, manifest)

    def placed(self, manifest: Mapping[str, Any]) -> Standing:
        """Say that all files are in the object storage; return whether the server has taken them."""
        return self._tell(wire.PLACED, manifest)

    def chunk(self, name: str, offset: int, data: bytes) -> int:
        """Send bytes of a file; return how many of it the server has: what is to be sent next begins there.

        Raises:
            LeaseLost: the silo is another worker's now.
            UserError: the server does not take them.
        """
        told = {
            wire.SILO: self._silo,
            wire.FILE: name,
            wire.OFFSET: str(offset),
            wire.SHA256: hashlib.sha256(data).hexdigest(),
        }
        content = self._leased(lambda: _content(self._call(wire.CHUNK, data, told), also=409))
        if "have" not in content:
            raise UserError(content["error"])
        return int(content["have"][name])

    def _tell(self, path: str, manifest: Mapping[str, Any]) -> Standing:
        content = self._leased(lambda: _content(self._post(path, manifest=dict(manifest))))
        return Standing(content["have"], content["whole"], content.get("problem", ""))

    def _leased(self, call: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """Return what ``call`` does; a lease that a restarted server does not know is renewed, unless it is another's.

        Raises:
            LeaseLost: the silo is another worker's now.
        """
        for _ in range(LEASE_TRIES):
            try:
                return call()
            except LeaseLost:
                if not self._fingerprint:  # it was never had
                    raise
                with contextlib.suppress(ServerUnreachable):  # then the call waits for it
                    self.heartbeat()
        return call()

    def _exchange(self, path: str, *arguments: Any, **options: Any) -> Reply:
        reply = super()._exchange(path, *arguments, **options)
        if path == wire.CHUNK and reply.status == 422:
            raise TransportError("the chunk was damaged on its way")
        return reply


def _content(reply: Reply, also: int = 200) -> Dict[str, Any]:
    """Return a reply's JSON object. Raises LeaseLost or UserError for another status than 200 and ``also``."""
    try:
        content = json.loads(bytes(reply.body))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"the server's reply (HTTP {reply.status}) is not JSON; is it a MistNet server?")
    if reply.status == 410:
        raise LeaseLost(content.get("error", "the lease is lost"))
    if reply.status not in (200, also):
        raise UserError(str(content.get("error", f"HTTP {reply.status}")))
    return content
