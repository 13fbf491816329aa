"""The worker of the mindspore-federated wheel (FederatedLearningManager 0.1.0) as a client: ``compat: wheel_worker``.

Its ways, from the wheel's ``ccsrc/worker/kernel``: any code but 200 to startFLJob ends its process; after any reply to
updateModel it asks getModel once a second, 512 times at most, and takes 201 for "wait" in any case; after a failed
round it expects the model of before; it knows trainable tensors only; its fl_id is made up anew at each start, and it
has neither lease nor token. Clients that name their worker are served as ever, in the same job.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from dataclasses import replace
from typing import Dict, Optional, Tuple

import numpy as np

from cross_silo.aggregation.aggregator import Aggregator, ModelAnswer
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.participant import Answer, Kept, Key
from cross_silo.aggregation.rounds import COMPLETE
from cross_silo.aggregation.service import EngineRoutes
from cross_silo.aggregation.shard_uploads import ShardUploads
from cross_silo.aggregation.uploads import InvalidUpdateError, UploadPool
from cross_silo.checkpoint.info import TRAINABLE
from cross_silo.protocol import headers
from cross_silo.protocol.connections import Connection
from cross_silo.protocol.http_service import Request, Response, Route
from cross_silo.protocol.messages import Message
from cross_silo.protocol.schema import NEWEST, OUT_OF_TIME, SUCCEED

log = logging.getLogger(__name__)

HOLD_SECONDS = 20.0
"""How long a request waits at the server: its HTTP client (libevent's) gives up after 50 s of silence."""
QUIET_POLL_SECONDS = 0.2


class WheelWorkerRoutes(EngineRoutes):
    """Answers the engine's messages as the wheel's worker needs it, where no header names a worker."""

    def __init__(
        self, aggregator: Aggregator, job: Job, pool: UploadPool, shards: Optional[ShardUploads] = None
    ) -> None:
        super().__init__(aggregator, job, pool, shards)
        self._fixed = [name for name, kind in job.info.kinds.items() if kind != TRAINABLE]
        self._samples: Dict[str, int] = Kept()
        self._pushed_in: "weakref.WeakKeyDictionary[Connection, Key]" = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._asked = time.monotonic()
        self._told = False

    def routes(self) -> Dict[Tuple[str, str], Route]:
        return {path: self._timed(route) for path, route in super().routes().items()}

    def _timed(self, route: Route) -> Route:
        """Note when such a worker asked last; a connection closed while it trains would lose its next request."""

        def timed(request: Request) -> Response:
            if _names_worker(request):
                return route(request)
            request.connection.keep(self._job.config.round.global_iteration_time_window / 1000)
            try:
                return route(request)
            finally:
                self._asked = time.monotonic()

        return timed

    def await_quiet(self, seconds: float, leave: threading.Event) -> None:
        """Return once no such worker has asked for ``seconds``: it cannot bear that its server is gone."""
        while time.monotonic() - self._asked < seconds and not leave.wait(QUIET_POLL_SECONDS):
            pass

    def _join(self, request: Request, silo: str, samples: int) -> Optional[Answer]:
        """Let a silo join; None (the safemode text) lets it train without a round and take the newest model after."""
        if _names_worker(request):
            return super()._join(request, silo, samples)
        with self._lock:
            self._samples[silo] = samples
        answer = self._aggregator.start_round(silo, "", samples, HOLD_SECONDS)
        if answer is None or answer.code != OUT_OF_TIME:
            return answer
        with self._aggregator.changed:
            if self._aggregator.rounds.is_member(silo, ""):
                return replace(answer, code=SUCCEED)
        return None if answer.waits or not self._aggregator.running else answer

    def _not_running(self, request: Request) -> Response:
        """Refuse an update in a way that leads to getModel, and so to the job's last model."""
        if _names_worker(request):
            return super()._not_running(request)
        return self._pushed(Answer(OUT_OF_TIME, "the job is disabled or finished"))

    def _may_push(self, request: Request, silo: str, iteration: int) -> Answer:
        """Tell whether an update would be taken; one of an attempt that failed meanwhile enters the next one."""
        answer = super()._may_push(request, silo, iteration)
        if _names_worker(request):
            return answer
        with self._aggregator.changed:
            rounds = self._aggregator.rounds
            key, is_present = rounds.key, iteration == rounds.iteration
            is_away = is_present and not rounds.is_member(silo, "") and silo in self._samples
        if not answer.ok and is_away:
            self._aggregator.start_round(silo, "", self._samples[silo])
            answer = super()._may_push(request, silo, iteration)
        if is_present:
            with self._lock:
                self._pushed_in[request.connection] = key
        return answer

    def _complete(self, request: Request, message: Message, samples: int) -> None:
        """Add what its updates never have: tensors that are not trained stay as the global model has them."""
        if _names_worker(request) or message["feature_map"] is None:
            return
        there = {feature["weight_fullname"] for feature in message["feature_map"]}
        model = self._aggregator.models.tensors
        lacking = [name for name in self._fixed if name not in there]
        message["feature_map"] += [
            {"weight_fullname": name, "data": model[name] * np.float32(samples)} for name in lacking
        ]
        if lacking and not self._told:
            self._told = True
            log.warning(
                "the wheel's workers do not send %s and %d more: left as they are", lacking[0], len(lacking) - 1
            )

    def _refuse(self, request: Request, silo: str, taken: Answer, error: InvalidUpdateError) -> Answer:
        """Refuse an update for good: such a worker does not send another one in the same round."""
        answer = super()._refuse(request, silo, taken, error)
        if not _names_worker(request) and taken.key is not None:
            self._aggregator.exclude(silo, "", taken.key, answer.reason)
        return answer

    def _model(self, request: Request, iteration: int) -> ModelAnswer:
        """Return the model of a round, or the newest one where that round's attempt is over; else wait for it."""
        if _names_worker(request):
            return super()._model(request, iteration)
        attempt = self._attempt_awaited(request, iteration)
        answer = self._aggregator.model(iteration, attempt, "", HOLD_SECONDS)
        if answer.verdict == headers.FAILED:
            answer = self._aggregator.model(NEWEST, None, "", 0.0)
        return answer

    def _attempt_awaited(self, request: Request, iteration: int) -> int:
        """Return the attempt whose verdict is awaited: what this connection pushed into, else what may have pushes."""
        with self._lock:
            pushed = self._pushed_in.get(request.connection, (-1, 0))
        with self._aggregator.changed:
            rounds = self._aggregator.rounds
            if pushed[0] == iteration:
                return pushed[1]
            has_pushes = any(member.admitted for member in rounds.participants.values())
            return rounds.attempt if has_pushes or rounds.phase in COMPLETE else 0


def _names_worker(request: Request) -> bool:
    return bool(request.header(headers.WORKER))
