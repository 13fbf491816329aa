"""POST /upload, where a job has several servers: a worker asks whether it may send its update's shards now."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.permits import Permit, Permits
from cross_silo.aggregation.shard_link import ServerLostError
from cross_silo.protocol import headers
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response

LARGEST = 2**31 - 1
MAX_TEXT = 300


class PermitRoutes:
    """Answers for one job; with one server nobody needs a permit, and none is given."""

    def __init__(self, aggregator: Aggregator, permits: Optional[Permits]) -> None:
        self._aggregator = aggregator
        self._permits = permits

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        return {("POST", "/upload"): self.upload}

    def upload(self, request: Request) -> Response:
        """Grant or refuse a permit; with "unreachable", take back the one that its worker cannot use."""
        content = request.json()
        silo, worker = content.get("silo"), content.get("worker")
        if not isinstance(silo, str) or not isinstance(worker, str):
            raise HttpError(400, "silo and worker must be texts")
        request.check_silo(silo)
        if "unreachable" in content and self._permits is not None:
            self._permits.give_back(silo, worker, str(content["unreachable"])[:MAX_TEXT])
            return self._answer(False, "the permit is taken back")
        iteration, attempt = (_whole(content, name) for name in ("iteration", "attempt"))
        wait = headers.number(str(content.get("wait", 0)), headers.MAX_WAIT) or 0.0
        return self._granted(silo, worker, iteration, attempt, wait)

    def _granted(self, silo: str, worker: str, iteration: int, attempt: int, wait: float) -> Response:
        answer = self._aggregator.may_push(silo, worker, iteration, attempt)
        if not answer.ok:
            return self._answer(False, answer.reason)
        if self._permits is None:
            return self._answer(False, "the job has one server")
        try:
            if not self._permits.grant(answer.key, silo, worker, answer.samples, wait):
                return self._answer(False, "other uploads take all places", waits=True)
        except ServerLostError as error:
            return self._answer(False, str(error))
        now = self._aggregator.may_push(silo, worker, iteration, attempt)
        if not now.ok:  # the round ended while the worker waited for a place
            self._permits.give_back(silo, worker, now.reason)
        return self._answer(now.ok, "" if now.ok else now.reason)

    def _answer(self, granted: bool, reason: str, waits: bool = False) -> Response:
        state = self._aggregator.rounds.state
        return json_response({"granted": granted, "reason": reason, "waits": waits, "state": state})

    def lapse(self) -> None:
        """Take back what is of use no more; called several times a second."""
        if self._permits is not None:
            self._permits.lapse(self._is_wanted)

    def _is_wanted(self, permit: Permit) -> bool:
        return self._aggregator.may_push(permit.silo, permit.worker, *permit.key).ok


def _whole(content: Mapping[str, object], name: str) -> int:
    value = content.get(name)
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise HttpError(400, f"{name} is {value!r:.60}, expected a whole number")
    return value
