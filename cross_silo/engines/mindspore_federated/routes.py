"""What a worker asks the front beside the wheel's server: a place in a round, and the round's verdict."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Tuple

from cross_silo.aggregation.job import Job
from cross_silo.aggregation.job_routes import JobRoutes, whose
from cross_silo.engines.mindspore_federated.mirror import Mirror
from cross_silo.protocol import headers
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response

BEGIN, STARTED, PUSHED, VERDICT, STANDING = "/begin", "/started", "/pushed", "/verdict", "/standing"


class FrontRoutes(JobRoutes):
    """The native server's JSON routes, and those in place of its weights' routes."""

    def __init__(self, mirror: Mirror, job: Job, servers: Callable[[], List[str]]) -> None:
        """Args: ``servers`` returns the addresses of the wheel's live servers."""
        super().__init__(mirror, job)
        self._mirror = mirror
        self._servers = servers

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        own = {BEGIN: self.begin, STARTED: self.started, PUSHED: self.pushed, VERDICT: self.verdict}
        own[STANDING] = self.standing
        return {**super().routes(), **{("POST", path): route for path, route in own.items()}}

    def standing(self, request: Request) -> Response:
        """Tell where the job stands, and which servers are alive."""
        whose(request, request.json())
        return self._standing({"servers": self._servers()})

    def begin(self, request: Request) -> Response:
        """Let a silo take part in the round in progress, and say which server it uses."""
        content = request.json()
        (silo, worker), samples = whose(request, content), _whole(content, "samples")
        if not 0 < samples < 2**31:
            raise HttpError(400, f"samples is {samples}, expected 1 to {2**31 - 1}")
        servers = self._servers()
        if not servers:
            return self._standing({"joined": False, "waits": False, "reason": "no server of the engine is alive"})
        place = self._mirror.begin(silo, worker, samples, _wait(content))
        servers = self._servers() or servers
        server = servers[place.number % len(servers)]
        told = {"joined": place.joined, "waits": place.waits, "reason": place.reason, "size": place.size}
        return self._standing({**told, "server": server, "iteration": place.key[0], "attempt": place.key[1]})

    def started(self, request: Request) -> Response:
        """Note which iteration a worker joined, unless its attempt is over; tell the data_size that the engine has."""
        content = request.json()
        silo, worker = whose(request, content)
        number, size = _whole(content, "engine_iteration"), _whole(content, "size")
        noted, size = self._mirror.started(silo, worker, _key(content), number, size)
        return self._standing({"noted": noted, "size": size})

    def pushed(self, request: Request) -> Response:
        """Note that the engine took a silo's update."""
        content = request.json()
        silo, worker = whose(request, content)
        given = content.get("stats")
        stats = {
            name: float(value)
            for name, value in (given if isinstance(given, dict) else {}).items()
            if name in ("steps", "train_seconds", "loss") and type(value) in (int, float) and math.isfinite(value)
        }
        loss, size = stats.get("loss", 0.0), _whole(content, "bytes")
        return self._standing({"noted": self._mirror.pushed(silo, worker, _key(content), loss, stats, size)})

    def verdict(self, request: Request) -> Response:
        """Tell how a round ended, once it has."""
        content = request.json()
        (_, worker), key = whose(request, content), _key(content)
        verdict, reason = self._mirror.verdict(*key, worker, _wait(content))
        return self._standing({"verdict": verdict, "reason": reason, "engine_iteration": self._mirror.made_by(key[0])})

    def _standing(self, content: Mapping[str, Any]) -> Response:
        """Return ``content`` with where the job stands."""
        with self._mirror.changed:
            rounds = self._mirror.rounds
            standing = {"state": rounds.state, "instance": self._job.instance, "good_rounds": rounds.good_rounds}
            standing["engine_iteration"] = self._mirror.made_by(rounds.good_rounds)
            return json_response({"iteration": rounds.iteration, "attempt": rounds.attempt, **standing, **content})


def _whole(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise HttpError(400, f"{name} is {value!r:.60}, expected a whole number of 0 or more")
    return value


def _key(content: Mapping[str, Any]) -> Tuple[int, int]:
    return _whole(content, "iteration"), _whole(content, "attempt")


def _wait(content: Mapping[str, Any]) -> float:
    value = content.get("wait", 0)
    usable = type(value) in (int, float) and math.isfinite(value)
    return min(max(float(value), 0.0), headers.MAX_WAIT) if usable else 0.0
