"""The worker's side of a job with several servers: each server gets its shard of an update and sends its of a model."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from cross_silo.errors import UserError
from cross_silo.protocol import headers
from cross_silo.protocol.connection import ReceiveBuffer, Reply, TransportError
from cross_silo.protocol.messages import decode
from cross_silo.protocol.schema import SUCCEED
from cross_silo.protocol.split import Split, from_text
from cross_silo.protocol.tasks import Task
from cross_silo.protocol.verifier import InvalidMessageError

SEND_SECONDS = 600.0
"""Silence of a server that has its shard: it answers when the first server has all of the update."""
FETCH_SECONDS = 60.0
TAG_WAIT = 10.0
"""A server waits so long for the model that the first one has begun to send."""
END_SECONDS = 5.0
"""After the first server's answer the others' are not waited for any longer."""

Ask = Callable[..., Reply]
"""(port, path, body, headers, timeout, receive) -> reply; TransportError where there is none."""


class ShardClient:
    """Talks to the job's servers but the first, at the same host."""

    def __init__(self, ask: Ask, in_use: Callable[[int], None]) -> None:
        """Args: ``in_use`` is told of a server whose message may still be read after its update's fate is known."""
        self._ask = ask
        self._in_use = in_use
        self._ports: Tuple[int, ...] = ()
        self._split_text = ""
        self._receive: Dict[int, ReceiveBuffer] = {}
        self._fetching: Dict[int, Task] = {}

    def learn(self, told: Mapping[str, str]) -> None:
        """Note what the first server says of the others in a reply to startFLJob."""
        ports = told.get(headers.PORTS) or ""
        known = tuple(int(port) for port in ports.split(",") if port.isdigit() and int(port) < 65536)
        self._ports, self._split_text = (known, told.get(headers.SPLIT) or "") if len(known) > 1 else ((), "")

    @property
    def are_several(self) -> bool:
        """Whether the job has several servers, as far as is known."""
        return bool(self._ports)

    def split_of(self, names: Sequence[str]) -> Optional[Split]:
        """Return which server has which tensor; None where there is one server, or it knows other tensors."""
        return from_text(self._split_text, names, len(self._ports)) if self._ports else None

    # an update

    def send(
        self,
        make: Callable[[int], memoryview],
        told: Mapping[str, str],
        first: Callable[[memoryview], Reply],
        failed: Callable[[str], None],
    ) -> Tuple[Reply, str]:
        """Send every server its shard at the same time.

        Args:
            make: returns a server's shard.
            first: sends the first server's, and returns its reply.
            failed: called where a server cannot be reached, with what is wrong.

        Returns:
            The first server's reply, which says what became of the update; and which server could not be reached.
        """
        problems: List[str] = []

        def run(index: int) -> None:
            try:
                status = self._ask(self._ports[index], "/updateModel", make(index), told, SEND_SECONDS, None).status
                problem = "" if status == 200 else f"answers with HTTP {status}"
            except (TransportError, UserError) as error:
                problem = f"is not reached: {error}"
            if problem:
                problems.append(f"server_{index} (port {self._ports[index]}) {problem}")
                failed(problems[-1])

        tasks = {index: Task(partial(run, index)) for index in self._others}
        reply = first(make(0))
        deadline = time.monotonic() + END_SECONDS
        for index, task in tasks.items():
            if not task.wait(max(deadline - time.monotonic(), 0.0)):
                self._in_use(index)
        return reply, "; ".join(problems)

    @property
    def _others(self) -> range:
        """Indices of the servers but the first."""
        return range(1, len(self._ports))

    # a model

    def fetch(self, status: int, told: Mapping[str, str]) -> None:
        """Begin to fetch the other servers' shards of the model whose head the first server has sent."""
        tag = told.get(headers.TAG) or ""
        if status != 200 or not tag:
            return
        for task in self._fetching.values():  # of a reply that was broken off: their buffers are used again
            task.wait()
        more = {headers.SHARD: "1", headers.TAG: tag, headers.WAIT: f"{TAG_WAIT:g}"}
        for index in self._others:
            receive = self._receive.setdefault(index, ReceiveBuffer())
            arguments = (self._ports[index], "/getModel", b"", more, FETCH_SECONDS, receive)
            self._fetching[index] = Task(partial(self._ask, *arguments))

    def fetched(self, told: Mapping[str, str]) -> Optional[List[Dict[str, Any]]]:
        """Return the features of the other servers that belong to the first one's reply; None where one is missing."""
        tasks, self._fetching = self._fetching, {}
        features: List[Dict[str, Any]] = []
        for task in tasks.values():
            try:
                reply = task.result()
                message = decode(reply.body, "ResponseGetModel") if reply.status == 200 else {"retcode": reply.status}
            except (TransportError, UserError, InvalidMessageError):
                return None
            if message["retcode"] != SUCCEED or reply.headers.get(headers.TAG) != told.get(headers.TAG):
                return None
            features += message["feature_map"] or ()
        return features
