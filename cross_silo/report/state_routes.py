"""GET /status (JSON) and GET /metrics (Prometheus): the same at the scheduler and at the server, for operators."""

from __future__ import annotations

from typing import Callable, Dict, Optional, Tuple

import redis

from cross_silo.config.auth import OPERATOR
from cross_silo.errors import UserError
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response
from cross_silo.report.metrics import CONTENT_TYPE, render
from cross_silo.report.status import Status

STATUS, METRICS = "/status", "/metrics"
PATHS = (STATUS, METRICS)


class StateRoutes:
    """Answers how the job stands."""

    def __init__(self, read: Callable[[], Status]) -> None:
        """Args: ``read`` returns the status; UserError: there is no job, RedisError: Redis does not answer."""
        self._read = read

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        return {("GET", STATUS): self.status, ("GET", METRICS): self.metrics}

    def status(self, request: Request) -> Response:
        """Answer with all of it."""
        _require_operator(request)
        try:
            return json_response(self._read())
        except UserError as error:
            raise HttpError(404, str(error)) from None
        except redis.RedisError:
            raise HttpError(503, "Redis does not answer") from None

    def metrics(self, request: Request) -> Response:
        """Answer with its numbers; without Redis, with those of this process."""
        _require_operator(request)
        found: Optional[Status] = None
        try:
            found = self._read()
        except (UserError, redis.RedisError):
            pass
        return Response(200, render(found), CONTENT_TYPE)


def _require_operator(request: Request) -> None:
    """Refuse a silo: what the others do is not its business."""
    request.body()
    if request.identity is not None and request.identity.role != OPERATOR:
        raise HttpError(403, f"{request.path} is not for {request.identity}; expected the role {OPERATOR}")
