"""The HTTP routes of a MistNet job: its terms, the extractor, and features in checked chunks that can be resumed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from typing import Any, Dict, Iterator, Mapping, Optional, Protocol, Tuple

from cross_silo.aggregation.leases import Leases
from cross_silo.aggregation.uploads import UploadPool
from cross_silo.mistnet import wire
from cross_silo.mistnet.store import DeliveryError, FeatureStore, OffsetError
from cross_silo.protocol import headers
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response
from cross_silo.protocol.limits import OneAtATime

POOL_SECONDS = 20.0
"""How long a chunk waits for a place in memory."""


class Intake(Protocol):
    """What the routes need of the job."""

    leases: Leases

    def refuse_late(self, silo: str) -> None:
        """Raise HttpError where no features of ``silo`` are taken any more."""

    def delivered(self, silo: str) -> None:
        """Hear that all features of a silo are here."""

    def fetch(self, silo: str) -> Optional[str]:
        """Take a silo's features from the object storage, in a thread; return why that failed the last time."""


class FeatureRoutes:
    """Answers what edges ask."""

    def __init__(
        self, intake: Intake, store: FeatureStore, terms: Mapping[str, Any], extractor: bytes, pool: UploadPool
    ) -> None:
        """Set up.

        Args:
            terms: what the job's silos agree on, told to whoever asks.
            extractor: the file of the layers before the cut: all that an edge gets of the model.
            pool: has the buffers that chunks are received into.
        """
        self._intake = intake
        self._store = store
        self._terms = dict(terms)
        self._extractor = extractor
        self._pool = pool
        self._busy = OneAtATime()
        self._counting = threading.Lock()
        self.bytes_down = 0
        """Bytes of the extractor that left."""

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        return {
            ("GET", wire.TERMS): self.terms,
            ("GET", wire.EXTRACTOR): self.extractor,
            ("POST", wire.OFFER): self.offer,
            ("POST", wire.CHUNK): self.chunk,
            ("POST", wire.PLACED): self.placed,
        }

    def terms(self, request: Request) -> Response:
        """Answer what the job's silos agree on."""
        request.body()
        return json_response(self._terms)

    def extractor(self, request: Request) -> Response:
        """Send the layers before the cut."""
        request.body()
        return Response(body=self._extractor, sent=self._note_sent)

    def _note_sent(self, sent: int) -> None:
        with self._counting:
            self.bytes_down += sent

    def offer(self, request: Request) -> Response:
        """Take a manifest; answer what is here of its files."""
        silo, content = self._named(request)
        with self._alone(silo):
            return self._standing(silo, self._store.offer(silo, content.get("manifest")))

    def placed(self, request: Request) -> Response:
        """Hear that a silo's features are in the object storage; answer whether they are here already."""
        silo, content = self._named(request)
        with self._alone(silo):
            have = self._store.offer(silo, content.get("manifest"))
        problem = None if self._store.is_whole(silo) else self._intake.fetch(silo)
        return self._standing(silo, have, problem)

    def chunk(self, request: Request) -> Response:
        """Take the next bytes of a file; answer how many of it are here."""
        silo, name = _header(request, wire.SILO), _header(request, wire.FILE)
        self._check(request, silo, _header(request, headers.WORKER))
        offset = _header(request, wire.OFFSET)
        if not (offset.isascii() and offset.isdigit() and len(offset) < 17):
            raise HttpError(400, f"{wire.OFFSET} is {offset[:40]!r}, expected a number")
        if not 0 < request.length <= wire.CHUNK_BYTES:
            raise HttpError(413, f"chunk of {request.length} bytes, expected 1 to {wire.CHUNK_BYTES}")
        with self._alone(silo), self._pool.buffer(POOL_SECONDS) as buffer:
            data = buffer[: request.length]
            request.read_into(data)
            if hashlib.sha256(data).hexdigest() != _header(request, wire.SHA256):
                raise HttpError(422, f"file {name[:64]}: the chunk at {offset} is damaged")
            try:
                have = self._store.write(silo, name, int(offset), data)
            except OffsetError as error:
                return json_response({"error": str(error), "have": {name: error.have}}, 409)
        return self._standing(silo, {name: have})

    def _standing(self, silo: str, have: Mapping[str, int], problem: Optional[str] = None) -> Response:
        whole = self._store.is_whole(silo)
        if whole:
            self._intake.delivered(silo)
        return json_response({"have": dict(have), "whole": whole, "problem": problem or ""})

    def _named(self, request: Request) -> Tuple[str, Dict[str, Any]]:
        """Return the silo in whose name a JSON request is made, if it may be, and the request's content."""
        content = _json(request)
        silo, worker = content.get("silo"), content.get("worker")
        if not isinstance(silo, str) or not isinstance(worker, str):
            raise HttpError(400, "silo and worker must be texts")
        self._check(request, silo, worker)
        return silo, content

    def _check(self, request: Request, silo: str, worker: str) -> None:
        request.check_silo(silo)
        lease = self._intake.leases.holder(silo)
        if lease is None or lease.worker != worker:
            raise HttpError(410, f"silo {silo[:64]!r} is not leased to this worker")

    @contextlib.contextmanager
    def _alone(self, silo: str) -> Iterator[None]:
        """Let one request of a silo in at a time; what is not taken becomes its HTTP error."""
        with self._busy.hold(silo) as free:
            if not free:
                raise HttpError(429, f"silo {silo!r} sends features already")
            if not self._store.is_whole(silo):
                self._intake.refuse_late(silo)
            try:
                yield
            except DeliveryError as error:
                raise HttpError(error.status, str(error)) from None


def _json(request: Request) -> Dict[str, Any]:
    try:
        content = json.loads(request.body(wire.MANIFEST_BYTES).decode("utf-8"))
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise HttpError(400, "the body is not a JSON object")
    return content


def _header(request: Request, name: str) -> str:
    value = request.header(name)
    if not value:
        raise HttpError(400, f"header {name} is missing")
    return value
