"""How an update whose tensors are spread over several servers comes together at the first one.

Our workers send each server its shard under a permit; a whole update of an old client is split and forwarded.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Sequence

from cross_silo.aggregation.gate import ShardCheck
from cross_silo.aggregation.participant import Answer, Key
from cross_silo.aggregation.permits import Permit, Permits
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.update import Tensors
from cross_silo.config.federated import FederatedConfig
from cross_silo.protocol import headers
from cross_silo.protocol.http_service import Request


class ShardUpload:
    """One update on its way to the first server."""

    def __init__(self, shards: Shards, permit: Optional[Permit], seconds: float, problem: str = "") -> None:
        """Args: ``permit`` is None for a whole update; ``problem`` says why the update is not taken."""
        self.problem = problem
        self.has_place = permit is not None
        """A place in the pool is kept for it."""
        self.pushed = False
        """It is in the round's sum."""
        self.reason = "the first server refused the update"
        self._shards = shards
        self._seconds = seconds
        self._forwarded: Optional[Key] = None
        self._silo = ""

    def check(self, silo: str, worker: str, taken: Answer, loss: float) -> ShardCheck:
        """Return how the gate is to check it."""

        def elsewhere(tensors: Tensors) -> float:
            if not self.has_place:
                self._forwarded, self._silo = taken.key, silo
                self._shards.expect(taken.key, silo, worker, taken.samples)
                self._shards.forward(taken.key, silo, worker, tensors, loss)
            return self._shards.receipts(taken.key, silo, self._seconds)

        return ShardCheck(self._shards.names, not self.has_place, elsewhere)

    def ended(self, answer: Answer) -> None:
        """Note what became of it."""
        self.pushed, self.reason = answer.ok, answer.reason or self.reason

    def close(self) -> None:
        """Let the other servers forget what was forwarded and is not in the sum."""
        if self._forwarded is not None and not self.pushed:
            self._shards.drop(self._forwarded, self._silo, self.reason)


class ShardUploads:
    """For all updates of a job."""

    def __init__(self, shards: Shards, permits: Permits, ports: Sequence[int], config: FederatedConfig) -> None:
        """Args: ``ports`` are those of the job's servers, in order."""
        self._shards = shards
        self._permits = permits
        self._seconds = max(config.round.update_model_time_window / 1000, 60.0)  # as the first shard's upload has
        self.headers: Dict[str, str] = {
            headers.PORTS: ",".join(map(str, ports)),
            headers.SPLIT: shards.split_text,
        }
        """What a worker that joins is told."""

    @property
    def names(self) -> List[str]:
        """The first server's tensors."""
        return self._shards.names

    @contextmanager
    def upload(self, request: Request) -> Iterator[ShardUpload]:
        """Follow an update from before its body until its fate is known."""
        permit = None
        if request.header(headers.SHARD):
            silo = request.identity.name if request.identity is not None else ""
            permit = self._permits.take(request.header(headers.WORKER) or "", silo)
            if permit is None:
                yield ShardUpload(self._shards, None, 0.0, "this worker has no permit for its update: ask at /upload")
                return
        upload = ShardUpload(self._shards, permit, self._seconds)
        try:
            yield upload
        finally:
            if permit is not None:
                self._permits.done(permit, upload.pushed, upload.reason)
            upload.close()
