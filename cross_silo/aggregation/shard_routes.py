"""The routes of a server beside the first one: shards from workers and to them, steps from the first server."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Tuple

from cross_silo.aggregation.arrival import ADDED, Arrival
from cross_silo.aggregation.averaging import NonFiniteAverageError
from cross_silo.aggregation.norms import squared_norm
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.refusals import MESSAGE
from cross_silo.aggregation.shard import Shard, ShardError
from cross_silo.aggregation.shard_link import NON_FINITE, PREFIX, TERM
from cross_silo.aggregation.update import CheckedUpdate
from cross_silo.aggregation.uploads import InvalidUpdateError, UploadPool, check_update, receive
from cross_silo.config.auth import SERVER
from cross_silo.config.federated import FederatedConfig
from cross_silo.protocol import headers
from cross_silo.protocol.access import Identity
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response
from cross_silo.protocol.layout import ModelMessage, largest_message
from cross_silo.protocol.limits import OneAtATime
from cross_silo.protocol.messages import decode, encode
from cross_silo.protocol.schema import NOT_READY, OUT_OF_TIME, REQUEST_ERROR, SUCCEED
from cross_silo.protocol.verifier import InvalidMessageError, Limits

BEGIN_BYTES = 64 << 20
"""Bound of the list of tensors."""
PLACE_SECONDS = 10.0
MAX_WAIT = 600.0


class ShardRoutes:
    """Answers for one :class:`Shard`."""

    def __init__(self, shard: Shard, config: FederatedConfig, first: str, over: threading.Event) -> None:
        """Set up.

        Args:
            first: address of the first server, for those who ask here by mistake.
            over: set when the first server says that the job has ended.
        """
        self._shard = shard
        self._config = config
        self._first = first
        self._over = over
        self._heard = time.monotonic()
        self._pool = UploadPool(config.round.max_uploads, 0)
        self._uploading = OneAtATime()
        self._limits = Limits()
        self._model: Dict[str, ModelMessage] = {}
        """Where the model of a term goes until it is served."""

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        steps: Dict[str, Callable[[Mapping[str, Any]], Dict[str, Any]]] = {
            "ping": self._ping,
            "expect": self._expect,
            "receipt": self._receipt,
            "drop": self._drop,
            "add": self._add,
            "prepare": self._prepare,
            "commit": self._commit,
            "end": self._end,
        }
        found: Dict[Tuple[str, str], Route] = {
            ("POST", PREFIX + name): self._step(step) for name, step in steps.items()
        }
        found["POST", PREFIX + "begin"] = self._step(self._begin, BEGIN_BYTES)
        found["POST", PREFIX + "serve"] = self.serve
        found["POST", PREFIX + "model"] = self.model
        found["POST", "/updateModel"] = self.update_model
        found["POST", "/getModel"] = self.get_model
        for method, path in (("POST", "/startFLJob"), ("GET", "/job"), ("POST", "/lease"), ("POST", "/heartbeat")):
            found[method, path] = self.elsewhere
        return found

    def silence(self) -> float:
        """Return the seconds since the first server last asked for anything; it does so several times a second."""
        return time.monotonic() - self._heard

    def elsewhere(self, request: Request) -> Response:
        """Send somebody to the first server."""
        raise HttpError(421, f"this server holds a part of the model only; expected the first one, at {self._first}")

    # the first server's steps

    def _step(self, step: Callable[[Mapping[str, Any]], Dict[str, Any]], limit: int = 65_536) -> Route:
        def route(request: Request) -> Response:
            _require_server(request)
            self._heard = time.monotonic()
            try:
                return json_response(step(request.json(limit)))
            except (ShardError, TimeoutError) as error:
                return json_response({"error": str(error)}, 409)
            except NonFiniteAverageError as error:
                return json_response({"error": str(error)}, NON_FINITE)
            except (KeyError, TypeError, ValueError) as error:
                raise HttpError(400, f"{type(error).__name__}: {error}") from None

        return route

    def _ping(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        return {"term": self._shard.term}

    def _begin(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        sizes = {str(name): int(size) for name, size in content["sizes"].items()}
        self._model = {content["term"]: self._shard.begin(content["term"], sizes, content["trainable"])}
        self._pool = UploadPool(self._config.round.max_uploads, largest_message(sizes))
        self._limits = Limits(tables=len(sizes) + 64, strings=2 * len(sizes) + 64)
        return {}

    def _expect(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        base, silo, worker = content["base"], content["silo"], content["worker"]
        self._shard.expect(content["term"], _key(content), base, silo, worker, content["samples"])
        return {}

    def _receipt(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        found = self._shard.receipt(content["term"], _key(content), content["silo"], min(content["wait"], MAX_WAIT))
        return {"state": found.state, "squares": found.squares, "reason": found.reason, "kind": found.kind}

    def _drop(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        self._shard.drop(content["term"], _key(content), content["silo"], content["reason"])
        return {}

    def _add(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        self._shard.add(content["term"], _key(content), content["silo"], content["norm"])
        return {}

    def _prepare(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        self._shard.prepare(content["term"], _key(content), content["silos"], content["samples"], content["tag"])
        return {}

    def _commit(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        self._shard.commit(content["term"], content["tag"], content["round"])
        return {}

    def _end(self, content: Mapping[str, Any]) -> Dict[str, Any]:
        if content["term"] == self._shard.term:
            self._over.set()
        return {}

    def serve(self, request: Request) -> Response:
        """Take this server's tensors of the good model."""
        _require_server(request)
        term = request.header(TERM) or ""
        message = self._model.get(term)
        if message is None:
            raise HttpError(409, "this is not the first server that it knows")
        region = message.region(list(message.tensors))
        if request.length != len(region):
            raise HttpError(400, f"a model of {request.length} bytes, expected {len(region)}")
        request.read_into(region)
        try:
            self._shard.serve(term, request.header(headers.TAG) or "")
        except ShardError as error:
            raise HttpError(409, str(error)) from None
        self._model = {}
        return json_response({})

    def model(self, request: Request) -> Response:
        """Send this server's tensors of a model to the first server, as they lie in memory."""
        _require_server(request)
        request.body()
        reading = self._shard.read(request.header(headers.TAG) or "")
        if reading is None:
            raise HttpError(409, "it has no such model")
        return Response(200, reading.region(self._names()), sent=lambda size: reading.close())

    def _names(self) -> List[str]:
        return list(self._shard.models.sizes)

    # workers

    def update_model(self, request: Request) -> Response:
        """Take a shard of an update; the answer comes when it is in the sum, or of no use."""
        if not request.header(headers.SHARD):
            return self.elsewhere(request)
        if request.length > self._pool.size:
            raise HttpError(413, f"a shard of {request.length} bytes, expected at most {self._pool.size}")
        seconds = max(self._config.round.update_model_time_window / 1000, 60.0)
        with self._uploading.hold(_uploader(request)) as alone:
            if not alone:
                raise HttpError(503, "an upload of this silo is under way")
            with self._pool.buffer(PLACE_SECONDS) as buffer:
                view = buffer[: request.length]
                finite = receive(request, view, seconds)
                return self._pushed(request, view, finite, seconds)

    def _pushed(self, request: Request, view: memoryview, finite: bool, wait: float) -> Response:
        try:
            message = decode(view, "RequestUpdateModel", self._limits)
        except InvalidMessageError as error:
            return _answer(REQUEST_ERROR, f"The schema of RequestUpdateModel is invalid. {error}")
        silo, iteration = message["fl_id"] or "", message["iteration"]
        if request.identity != Identity(SERVER, SERVER):  # which forwards whole updates
            request.check_silo(silo)
        attempt = int(headers.number(request.header(headers.ATTEMPT), 2**31 - 1) or 0)
        arrival = self._shard.arrival(silo, request.header(headers.WORKER) or "", (iteration, attempt))
        if arrival is None:
            return _answer(OUT_OF_TIME, "no shard of this worker is expected")
        models = self._shard.models
        try:
            if message["feature_map"] is None:
                raise InvalidUpdateError("a shard has no tensors", MESSAGE)
            tensors = check_update(message, models.sizes, finite)
        except InvalidUpdateError as error:
            self._shard.refuse(arrival, str(error), error.reason)
            return _answer(REQUEST_ERROR, f"Verify model feature map failed: {error}")
        squares = 0.0
        if self._config.aggregation.measures_norms:
            squares = squared_norm(tensors, arrival.samples, models.tensors, self._shard.trainable)
        return _fate(self._shard.received(arrival, CheckedUpdate(tensors, arrival.samples), squares, wait))

    def get_model(self, request: Request) -> Response:
        """Send this server's tensors of the model whose tag the first server told, with a wait if it is not there."""
        if not request.header(headers.SHARD):
            return self.elsewhere(request)
        request.body()
        tag = request.header(headers.TAG) or ""
        reading = self._shard.read(tag, headers.number(request.header(headers.WAIT), headers.MAX_WAIT) or 0.0)
        if reading is None:
            values = {"retcode": NOT_READY, "reason": "this server has no such model", "timestamp": "0"}
            return Response(200, encode("ResponseGetModel", values))
        return Response(200, reading.buffer, headers={headers.TAG: tag}, sent=lambda size: reading.close())


def _require_server(request: Request) -> None:
    """Refuse whoever is no server of the job. Raises HttpError."""
    if request.identity not in (None, Identity(SERVER, SERVER)):
        raise HttpError(403, f"{request.path} is not for {request.identity}; expected the role {SERVER}")


def _uploader(request: Request) -> str:
    """Return the silo that sends a shard, where it is known before the body; the first server sends for many."""
    identity = request.identity
    return identity.name if identity is not None and identity.role != SERVER else ""


def _key(content: Mapping[str, Any]) -> Key:
    iteration, attempt = content["key"]
    return int(iteration), int(attempt)


def _fate(arrival: Arrival) -> Response:
    if arrival.state == ADDED:
        return _answer(SUCCEED, "success not ready")
    return _answer(OUT_OF_TIME, arrival.reason)


def _answer(code: int, reason: str) -> Response:
    return Response(200, encode("ResponseUpdateModel", {"retcode": code, "reason": reason, "timestamp": "0"}))
