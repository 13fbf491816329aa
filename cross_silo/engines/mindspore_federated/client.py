"""A worker's side of the wheel's engine: weights to one of its servers, all else to the front.

The engine's servers want a new connection a request, know no header of ours, take data sizes up to 65535, and answer
in plain text while they are busy between iterations.
"""

from __future__ import annotations

import json
import time
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np

from cross_silo.aggregation.rounds import ENDED, FULL
from cross_silo.config.federated import split_address
from cross_silo.engines.mindspore_federated.routes import BEGIN, PUSHED, STANDING, STARTED, VERDICT
from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.client import ALREADY_JOINED, ALREADY_PUSHED, AggregationClient, ServerUnreachable
from cross_silo.protocol.connection import ReceiveBuffer, Reply, TransportError, exchange
from cross_silo.protocol.messages import Message, decode, encode
from cross_silo.protocol.replies import ModelReply, PushReply, Ticket
from cross_silo.protocol.retry import Retrier, RetryPolicy
from cross_silo.protocol.schema import DISABLED, OUT_OF_TIME, SAFEMODE, SUCCEED
from cross_silo.protocol.update_messages import WHOLE
from cross_silo.protocol.verifier import InvalidMessageError

CALL_SECONDS = 60.0
"""Silence of a server in a call after which it counts as gone."""
ENGINE_RETRY = RetryPolicy(longest=0.5, deadline=10.0)
"""For one of several servers: then the front is asked again, which knows those alive."""
READY_RETRY = RetryPolicy(first=0.05, longest=0.2, deadline=60.0)
"""For a server that is between two iterations, or stores the model that another one made."""
NOT_JOINED = "devices_meta for"
"""Begins the refusal of an update whose silo the iteration does not know."""


class _NotReadyError(Exception):
    """The server is to be asked again."""


class _RefusedError(Exception):
    """The server does not do it now."""


class WheelClient(AggregationClient):
    """Speaks with front and servers for one worker; ``iteration`` is always our round's number."""

    _server = ""
    _size = 0
    _engine_iteration = 0
    _closed_iteration = -1
    """That began without this silo."""

    # rounds

    def start_round(self, data_size: int, wait: float = 0.0) -> Ticket:
        """Join the round in progress, first at the front, which waits for every silo, then at a server."""
        place = self._ask(BEGIN, wait, samples=data_size)
        state, instance, key = place["state"], place["instance"], (place["iteration"], place["attempt"])
        if not place["joined"]:
            return Ticket(*key, False, place["reason"], state, instance, place["waits"])
        self._server, self._size = place["server"], place["size"]
        values = {"fl_name": "cross_silo", "fl_id": self._silo, "data_size": self._size, "timestamp": _now()}
        try:
            answer = self._tell("/startFLJob", encode("RequestFLJob", values), "ResponseFLJob")
        except _RefusedError as refused:
            return Ticket(*key, False, str(refused), state, instance)
        code, reason, iteration = answer["retcode"], answer["reason"] or "", answer["iteration"]
        # who is in a full iteration is told that it is full, too; an update tells who is not
        is_in = reason.startswith(ALREADY_JOINED) or (reason.startswith(FULL) and iteration != self._closed_iteration)
        if code != SUCCEED and not (code == OUT_OF_TIME and is_in):
            return Ticket(*key, False, f"{self._server}: {reason}", state, instance, reason.startswith(FULL))
        noted = self._ask(STARTED, iteration=key[0], attempt=key[1], engine_iteration=iteration, size=self._size)
        if not noted["noted"]:
            return Ticket(*key, False, "the attempt is over already", noted["state"], instance, True)
        self._engine_iteration, self._size = iteration, noted["size"]  # the first that the engine heard of stays
        self._closed_iteration = -1  # the engine may count anew
        self._ticket = Ticket(*key, True, reason, state, instance)
        return self._ticket

    def push(
        self,
        ticket: Ticket,
        weights: Mapping[str, np.ndarray],
        data_size: int,
        loss: float,
        stats: Mapping[str, Any],
    ) -> PushReply:
        """Send this silo's update, scaled as the engine knows its size, to the server that it joined at."""
        values = {"iteration": self._engine_iteration, "upload_loss": loss, "timestamp": _now()}
        message = self._updates.filled(WHOLE, weights, self._size, values)
        try:
            answer = self._tell("/updateModel", message, "ResponseUpdateModel")
        except _RefusedError as refused:
            return PushReply(False, str(refused), ticket.state)
        code, reason = answer["retcode"], answer["reason"] or ""
        accepted = code == SUCCEED or (code == OUT_OF_TIME and reason.startswith(ALREADY_PUSHED))
        if not accepted and code != OUT_OF_TIME:
            raise UserError(f"the server refuses the update of silo {self._silo}: {reason}")
        if not accepted:
            if reason.startswith(NOT_JOINED):
                self._closed_iteration = self._engine_iteration
            return PushReply(False, reason, ticket.state)
        told = {"stats": {"loss": loss, **stats}, "bytes": len(message)}
        noted = self._ask(PUSHED, iteration=ticket.iteration, attempt=ticket.attempt, **told)
        return PushReply(True, reason, noted["state"])

    def get_model(self, iteration: Optional[int], wait: float = 0.0) -> ModelReply:
        """Ask for the model of round ``iteration``, once the front says that the round is good; None: the newest.

        The weights are overwritten by the next model that is received.
        """
        if iteration is None:
            try:
                return self._retrier.run(self._newest, (_NotReadyError,))
            except _NotReadyError as error:
                raise ServerUnreachable(f"no model of the engine: {error}") from None
        attempt = self._attempt(iteration)
        told = self._ask(VERDICT, wait, iteration=iteration, attempt=attempt or 0)
        if told["verdict"] != headers.GOOD:
            return ModelReply(told["verdict"], told["reason"], -1, None, told["state"])
        return self._model(told["engine_iteration"], iteration, told["state"])

    def _newest(self) -> ModelReply:
        """Return the newest model, and which round made it: the same before and after it was sent."""
        before = self._ask(STANDING)
        if not before["servers"]:
            if before["state"] in ENDED:
                return ModelReply(headers.PENDING, "the engine's servers have left", -1, None, before["state"])
            raise _NotReadyError("none of its servers is alive")
        if self._server not in before["servers"]:
            self._server = before["servers"][0]
        reply = self._model(before["engine_iteration"], before["good_rounds"], before["state"])
        if reply.weights is None:
            raise _NotReadyError(reply.reason)
        if self._ask(STANDING)["good_rounds"] != before["good_rounds"]:
            raise _NotReadyError("rounds end faster than a model is received")
        return reply

    def _model(self, engine_iteration: int, round: int, state: str) -> ModelReply:
        values = {"fl_name": "cross_silo", "iteration": engine_iteration, "timestamp": _now()}
        try:
            answer = self._tell(
                "/getModel", encode("RequestGetModel", values), "ResponseGetModel", self._receive, awaited=True
            )
        except _RefusedError as refused:
            return ModelReply(headers.PENDING, str(refused), -1, None, state)
        weights = {feature["weight_fullname"]: feature["data"] for feature in answer["feature_map"] or ()}
        return ModelReply(headers.GOOD, "", round, weights, state)

    # the exchange below

    def _ask(self, path: str, wait: float = 0.0, **content: Any) -> Dict[str, Any]:
        """Ask the front. Raises UserError for what it refuses, and ServerUnreachable."""
        wait = min(wait, headers.MAX_WAIT)
        reply = self._call(path, self._json({"wait": wait, **content}), None, wait)
        try:
            answer = json.loads(bytes(reply.body))
        except ValueError:
            answer = None
        if reply.status != 200 or not isinstance(answer, dict):
            problem = answer.get("error") if isinstance(answer, dict) else "no JSON; is it the front of a job?"
            raise UserError(f"{self._address}{path}: {problem}")
        return answer

    def _tell(
        self,
        path: str,
        body: Union[bytes, memoryview],
        table: str,
        receive: Optional[ReceiveBuffer] = None,
        awaited: bool = False,
    ) -> Message:
        """Ask the engine's server until it is there and ready.

        Args:
            awaited: an answer that something is not ready is no answer.

        Raises:
            _RefusedError: it is gone, does not become ready, or is about to leave.
        """

        def exchange_once() -> Reply:
            return self._exchange_with_engine(path, body, receive)

        def once() -> Message:
            reply = Retrier(ENGINE_RETRY).run(exchange_once, (TransportError,))
            text = str(bytes(reply.body[:128]), "utf-8", "replace")
            if text.startswith(SAFEMODE):
                raise _NotReadyError(text)
            if text.startswith(DISABLED):
                raise _RefusedError(f"{self._server}: {text}")
            if reply.status != 200:
                raise _RefusedError(f"{self._server}: HTTP {reply.status} {text}")
            try:
                message = decode(reply.body, table)
            except InvalidMessageError:
                raise _NotReadyError(text) from None  # one of the rarer plain texts
            if awaited and message["retcode"] != SUCCEED:
                raise _NotReadyError(message["reason"] or "")
            return message

        try:
            return Retrier(READY_RETRY).run(once, (_NotReadyError,))
        except (_NotReadyError, TransportError) as error:
            raise _RefusedError(f"the engine's server at {self._server}: {error}") from None

    def _exchange_with_engine(
        self, path: str, body: Union[bytes, memoryview], receive: Optional[ReceiveBuffer]
    ) -> Reply:
        host, port = split_address(self._server, "server")
        reply = exchange(host, port, path, body, {}, CALL_SECONDS, receive)
        with self._counting:
            self.bytes_up += len(body)
            self.bytes_down += len(reply.body)
        return reply


def _now() -> str:
    return f"{int(time.time() * 1000):013d}"
