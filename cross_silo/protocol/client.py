"""The worker's side of the wire: leases, rounds, updates and models, with retries."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from functools import partial
from typing import Any, List, Mapping, Optional

import numpy as np

from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.access import Credentials
from cross_silo.protocol.caller import Caller, content_of
from cross_silo.protocol.connection import ReceiveBuffer, Reply, TransportError
from cross_silo.protocol.messages import Message, encode
from cross_silo.protocol.replies import (
    HeartbeatReply,
    JobInfo,
    LeaseLost,
    ModelReply,
    PushReply,
    ServerUnreachable,
    SiloTaken,
    Ticket,
    state_of,
    text_of,
)
from cross_silo.protocol.retry import RetryPolicy
from cross_silo.protocol.schema import NEWEST, OUT_OF_TIME, SAFEMODE, SUCCEED
from cross_silo.protocol.shard_client import ShardClient
from cross_silo.protocol.split import names_of
from cross_silo.protocol.update_messages import WHOLE, UpdateMessages

log = logging.getLogger(__name__)

__all__ = [
    "AggregationClient",
    "HeartbeatReply",
    "JobInfo",
    "LeaseLost",
    "ModelReply",
    "PushReply",
    "ServerUnreachable",
    "SiloTaken",
    "Ticket",
]

HEARTBEAT_SECONDS = 5.0
SAFEMODE_PAUSE = 0.05
PERMIT_WAIT = 20.0
"""Seconds that the first server may hold the request for a permit."""
ALREADY_JOINED = "Updating device metadata failed"
ALREADY_PUSHED = "Updating metadata of UpdateModelClientList failed"


class AggregationClient(Caller):
    """Talks to one aggregator for one worker. Heartbeats may run beside another call in a thread of their own."""

    def __init__(
        self,
        address: str,
        silo: str,
        worker: str,
        node: str,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008
        wait_for_server: float = 30.0,
        shown: Credentials = Credentials(),  # noqa: B008
    ) -> None:
        """Set up; nothing is sent yet.

        Args:
            address: host:port of the server.
            worker: this process's id.
            node: host:pid, shown to people.
            retry: for calls during the job, as the server may be restarted.
            wait_for_server: seconds that :meth:`job` waits for the server's start.
            shown: the silo's certificate or token.
        """
        super().__init__(address, silo, worker, retry, shown)
        self._node = node
        self._wait_for_server = wait_for_server
        self._receive = ReceiveBuffer()
        self._updates = UpdateMessages(silo)
        self._shards = ShardClient(self._ask_at, self._updates.forget)
        self._ticket: Optional[Ticket] = None
        self._samples = 0
        self._fingerprint = ""

    # the job and the lease

    def job(self) -> JobInfo:
        """Ask what the job is, waiting for the server's start. Raises ServerUnreachable."""
        content = content_of(self._call("/job", None, deadline=self._wait_for_server))
        known = [field.name for field in dataclasses.fields(JobInfo)]
        return JobInfo(**{name: content[name] for name in known if name in content})

    def acquire_lease(self, samples: int, fingerprint: str) -> float:
        """Become the silo's worker; return the lease's seconds.

        Raises:
            SiloTaken: another live worker holds the silo.
            UserError: the silo or the model is not of this job.
        """
        self._samples, self._fingerprint = samples, fingerprint
        reply = self._post("/lease", samples=samples, fingerprint=fingerprint, node=self._node)
        content = content_of(reply, refused=(403, 409, 412))
        if reply.status == 409:
            raise SiloTaken(content["error"])
        if reply.status != 200:
            raise UserError(content["error"])
        return float(content["seconds"])

    def heartbeat(self, **info: Any) -> HeartbeatReply:
        """Renew the lease, once and without retries.

        Args:
            info: phase, iteration, epoch, step, loss.

        Raises:
            LeaseLost: the silo is another worker's now.
            ServerUnreachable: the server did not answer this time.
        """
        told = {"node": self._node, "samples": self._samples, "fingerprint": self._fingerprint, **info}
        body = self._json(told)
        try:
            reply = self._exchange("/heartbeat", body, {}, HEARTBEAT_SECONDS)
        except TransportError as error:
            raise ServerUnreachable(f"no server answers at {self._address}: {error}") from None
        content = content_of(reply, refused=(410, 412))
        if reply.status != 200:
            raise LeaseLost(content["error"])
        seconds, instance = float(content["seconds"]), str(content.get("instance", ""))
        return HeartbeatReply(content["state"], content["iteration"], content["attempt"], seconds, instance)

    def report(self, iteration: int, kind: str, detail: str) -> None:
        """Say that no update will come for the round that was joined; it fails at once."""
        attempt = self._attempt(iteration)
        told = {} if attempt is None else {"attempt": attempt}
        content_of(self._post("/report", iteration=iteration, kind=kind, detail=detail, **told))

    def measured(self, instance: str, round: int, metrics: Mapping[str, float]) -> None:
        """Tell what the global model of ``round`` reached on the silo's own validation set (AP, AP50, AP75)."""
        content_of(self._post("/measured", instance=instance, round=round, metrics=dict(metrics)))

    def release(self) -> None:
        """Give the lease back, if the server can be reached."""
        try:
            self._exchange("/release", self._json({}), {}, HEARTBEAT_SECONDS)
        except TransportError:
            pass

    # rounds

    def start_round(self, data_size: int, wait: float = 0.0) -> Ticket:
        """Join the round in progress with ``data_size`` samples. Raises ServerUnreachable.

        Args:
            wait: seconds that the server may hold the request until a round has a place for this silo.
        """
        values = {"fl_name": "cross_silo", "fl_id": self._silo, "data_size": data_size, "timestamp": _now()}
        body = encode("RequestFLJob", values)
        wait = min(wait, headers.MAX_WAIT)
        told = {headers.WAIT: f"{wait:g}"} if wait else {}
        reply = self._call("/startFLJob", body, told, wait)
        while text_of(reply) == SAFEMODE:
            time.sleep(SAFEMODE_PAUSE)
            reply = self._call("/startFLJob", body, told, wait)
        state = state_of(reply)
        if text_of(reply) is not None:
            return Ticket(0, 0, False, text_of(reply) or "", state)
        message = self._decode(reply, "ResponseFLJob")
        code, reason = message["retcode"], message["reason"] or ""
        joined = code == SUCCEED or (code == OUT_OF_TIME and reason.startswith(ALREADY_JOINED))
        self._shards.learn(reply.headers)
        attempt = _whole(reply.headers.get(headers.ATTEMPT), 1)
        instance = reply.headers.get(headers.INSTANCE, "")
        waits = reply.headers.get(headers.VERDICT) == headers.PENDING
        ticket = Ticket(message["iteration"], attempt, joined, reason, state, instance, waits)
        if joined:
            self._ticket = ticket
        return ticket

    def push(
        self,
        ticket: Ticket,
        weights: Mapping[str, np.ndarray],
        data_size: int,
        loss: float,
        stats: Mapping[str, Any],
    ) -> PushReply:
        """Send this silo's update: ``weights`` times ``data_size``.

        Args:
            weights: every tensor of the model, of any shape.
            stats: steps, train_seconds and loss.

        Raises:
            UserError: the server refuses updates of this model, or cannot be reached.
        """
        told = {headers.ATTEMPT: str(ticket.attempt), headers.STATS: json.dumps(dict(stats))}
        found = self._shards.split_of(list(weights))
        values = {"iteration": ticket.iteration, "upload_loss": loss, "timestamp": _now()}
        if found is not None:
            refused = self._ask_permit(ticket)
            if refused is not None:
                return refused
            told[headers.SHARD] = "1"

            def make(index: int) -> memoryview:
                shard = {name: weights[name] for name in names_of(found, index)}
                return self._updates.filled(index, shard, data_size, values)

            send = partial(self._call, "/updateModel", more=told)
            reply, problem = self._shards.send(make, told, send, self._give_permit_back)
            if not problem:
                return self._pushed(reply)
            log.warning("%s: the whole update goes to the first server", problem)
            del told[headers.SHARD]
        message = self._updates.filled(WHOLE, weights, data_size, values)
        return self._pushed(self._call("/updateModel", message, told))

    def _ask_permit(self, ticket: Ticket) -> Optional[PushReply]:
        """Wait until the servers expect this worker's shards; return why they do not."""
        while True:
            asked = {"iteration": ticket.iteration, "attempt": ticket.attempt, "wait": PERMIT_WAIT}
            content = content_of(self._post("/upload", **asked))
            if content["granted"]:
                return None
            if not content["waits"]:
                reason = str(content["reason"])
                return PushReply(reason.startswith(ALREADY_PUSHED), reason, str(content["state"]))

    def _give_permit_back(self, why: str) -> None:
        try:
            self._exchange("/upload", self._json({"unreachable": why}), {}, HEARTBEAT_SECONDS)
        except TransportError:
            pass  # the first server then waits for the shard in vain, until its own time is over

    def _pushed(self, reply: Reply) -> PushReply:
        """Return what the reply to an update says."""
        state = state_of(reply)
        if text_of(reply) is not None:
            return PushReply(False, text_of(reply) or "", state)
        answer = self._decode(reply, "ResponseUpdateModel")
        code, reason = answer["retcode"], answer["reason"] or ""
        accepted = code == SUCCEED or (code == OUT_OF_TIME and reason.startswith(ALREADY_PUSHED))
        if not accepted and code != OUT_OF_TIME:
            raise UserError(f"the server refuses the update of silo {self._silo}: {reason}")
        return PushReply(accepted, reason, state)

    def get_model(self, iteration: Optional[int], wait: float = 0.0) -> ModelReply:
        """Ask for the model of round ``iteration``; None: the newest good one.

        Args:
            wait: seconds that the server may hold the request for a verdict.

        The weights are overwritten by the next model that is received.
        """
        wait = min(wait, headers.MAX_WAIT)
        told = {headers.WAIT: f"{wait:g}"} if wait else {}
        attempt = None if iteration is None else self._attempt(iteration)
        if attempt is not None:
            told[headers.ATTEMPT] = str(attempt)
        values = {"fl_name": "cross_silo", "iteration": NEWEST if iteration is None else iteration, "timestamp": _now()}
        body = encode("RequestGetModel", values)
        whole = dict(told)
        if self._shards.are_several:
            told[headers.SHARD] = "1"
        reply = self._call("/getModel", body, told, wait, self._receive, on_head=self._shards.fetch)
        others: Optional[List[Message]] = []
        if reply.headers.get(headers.TAG):
            others = self._shards.fetched(reply.headers)
            if others is None:
                reply, others = self._call("/getModel", body, whole, wait, self._receive), []
        state = state_of(reply)
        if text_of(reply) is not None:
            return ModelReply(headers.PENDING, text_of(reply) or "", -1, None, state)
        message = self._decode(reply, "ResponseGetModel")
        reason = headers.unquote(reply.headers.get(headers.REASON)) or message["reason"] or ""
        if message["retcode"] != SUCCEED:
            verdict = reply.headers.get(headers.VERDICT, headers.PENDING)
            return ModelReply(verdict, reason, -1, None, state)
        features = [*(message["feature_map"] or ()), *others]
        weights = {feature["weight_fullname"]: feature["data"] for feature in features}
        made_by = _whole(reply.headers.get(headers.MODEL_ROUND), message["iteration"] - 1)
        return ModelReply(headers.GOOD, reason, made_by, weights, state)

    def _attempt(self, iteration: int) -> Optional[int]:
        """Return the attempt of round ``iteration`` that this worker joined last."""
        ticket = self._ticket
        return ticket.attempt if ticket is not None and ticket.iteration == iteration else None


def _whole(value: Optional[str], missing: int) -> int:
    return int(value) if value is not None and value.isdigit() else missing


def _now() -> str:
    return f"{int(time.time() * 1000):013d}"
