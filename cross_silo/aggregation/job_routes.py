"""Routes that the engine does not have, in JSON: the job, leases, heartbeats, reports, silos' measurements."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Tuple

from cross_silo.aggregation.aggregator import Aggregator
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.leases import LeaseRefusedError
from cross_silo.aggregation.presence import standing_of
from cross_silo.aggregation.refusals import FINGERPRINT
from cross_silo.aggregation.rounds import ENDED
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, json_response
from cross_silo.protocol.limits import RateLimit
from cross_silo.report.summary import METRICS

MAX_TEXT = 128
MAX_DETAIL = 2000
TEXTS = ("node", "phase")
NUMBERS = ("samples", "iteration", "epoch", "step", "loss")
"""What a worker tells of itself, shown at /job, /status and /metrics."""

LEASES = (5.0, 50)
"""Attempts to get a silo's lease: a second, and at once."""


class JobRoutes:
    """Answers what workers ask beside the engine's messages."""

    def __init__(self, aggregator: Aggregator, job: Job) -> None:
        self._aggregator = aggregator
        self._job = job
        self._leases = RateLimit(*LEASES)

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        return {
            ("GET", "/job"): self.job,
            ("POST", "/lease"): self.lease,
            ("POST", "/heartbeat"): self.heartbeat,
            ("POST", "/report"): self.report,
            ("POST", "/measured"): self.measured,
            ("POST", "/release"): self.release,
        }

    def job(self, request: Request) -> Response:
        """Answer what the job is and where it stands."""
        request.body()
        job, rounds, config = self._job, self._aggregator.rounds, self._job.config
        with self._aggregator.changed:
            standing = {**standing_of(rounds), "fl_iteration_num": rounds.last_iteration}
        return json_response(
            {
                "fl_name": config.fl_name,
                "instance": job.instance,
                "engine": config.engine,
                **standing,
                "fingerprint": job.info.fingerprint,
                "pre_trained_sha256": job.info.pre_trained_sha256,
                "initial_sha256": job.info.initial_sha256,
                "classes": list(job.info.classes),
                "model_bytes": job.model_bytes,
                "tensors": len(job.sizes),
                "lease": config.lease,
                "silos": list(config.silo_names) or config.num_silos,
                "client": dataclasses.asdict(config.client),
                "participants": [
                    {"silo": silo, "worker": lease.worker, **lease.info}
                    for silo, lease in sorted(self._aggregator.leases.live().items())
                ],
            }
        )

    def lease(self, request: Request) -> Response:
        """Grant a silo to a worker with the job's model."""
        content = request.json()
        silo, worker = whose(request, content)
        if not self._leases.allow(silo):
            raise HttpError(429, f"silo {silo!r} asks for its lease too often")
        samples = content.get("samples")
        if type(samples) is not int or not 0 < samples < 2**31:
            raise HttpError(400, f"samples is {samples!r:.60}, expected 1 to {2**31 - 1}")
        self._check_fingerprint(silo, _text(content, "fingerprint"))
        state = self._aggregator.rounds.state
        if state in ENDED:
            raise HttpError(403, f"job {self._job.config.fl_name!r} is {state}")
        try:
            seconds = self._aggregator.leases.acquire(silo, worker, self._told(content))
        except LeaseRefusedError as error:
            return _refused(error)
        return json_response({"seconds": seconds})

    def heartbeat(self, request: Request) -> Response:
        """Renew a lease and tell where the job stands."""
        content = request.json()
        silo, worker = whose(request, content)
        if content.get("fingerprint"):
            self._check_fingerprint(silo, _text(content, "fingerprint"))
        try:
            self._aggregator.leases.renew(silo, worker, self._told(content))
        except LeaseRefusedError as error:
            raise HttpError(410, str(error)) from None
        rounds = self._aggregator.rounds
        return json_response(
            {
                "state": rounds.state,
                "iteration": rounds.iteration,
                "attempt": rounds.attempt,
                "seconds": self._aggregator.leases.seconds,
                "instance": self._job.instance,
            }
        )

    def report(self, request: Request) -> Response:
        """Note that a worker cannot push its update."""
        content = request.json()
        (silo, worker), kind = whose(request, content), _text(content, "kind")
        rounds = self._aggregator.rounds
        iteration, attempt = content.get("iteration"), content.get("attempt", rounds.attempt)
        if type(iteration) is not int or type(attempt) is not int:
            raise HttpError(400, "iteration and attempt must be whole numbers")
        detail = _one_line(str(content.get("detail", "")))[:MAX_DETAIL]
        return json_response({"failed": self._aggregator.report(silo, worker, iteration, attempt, kind, detail)})

    def measured(self, request: Request) -> Response:
        """Note what a global model reached on a silo's own validation set."""
        content = request.json()
        silo, worker = whose(request, content)
        instance, round, metrics = _text(content, "instance"), content.get("round"), content.get("metrics")
        if type(round) is not int:
            raise HttpError(400, f"round is {round!r:.60}, expected a whole number")
        if not isinstance(metrics, dict):
            raise HttpError(400, f"metrics is {metrics!r:.60}, expected an object")
        for name in METRICS:
            if type(metrics.get(name)) not in (int, float) or not 0 <= metrics[name] <= 1:
                raise HttpError(400, f"{name} is {metrics.get(name)!r:.60}, expected 0 to 1")
        values = {name: float(metrics[name]) for name in METRICS}
        kept = instance == self._job.instance and self._aggregator.measured(silo, worker, round, values)
        return json_response({"kept": kept})

    def release(self, request: Request) -> Response:
        """Take a lease back."""
        content = request.json()
        return json_response({"released": self._aggregator.release(*whose(request, content))})

    def _check_fingerprint(self, silo: str, fingerprint: str) -> None:
        expected = self._job.info.fingerprint
        if fingerprint != expected:
            problem = f"the worker's model (fingerprint {fingerprint[:12]}) is not the job's ({expected[:12]})"
            self._aggregator.refusals.add(silo, FINGERPRINT, problem)
            raise HttpError(412, f"{problem}: expected the server's --config")

    @staticmethod
    def _told(content: Mapping[str, Any]) -> Dict[str, Any]:
        """Return what a worker says of itself: short texts where texts are expected, finite numbers elsewhere."""
        texts = {name: content[name] for name in TEXTS if isinstance(content.get(name), str)}
        numbers = {name: content[name] for name in NUMBERS if type(content.get(name)) in (int, float)}
        return {
            **{name: _one_line(text)[:MAX_TEXT] for name, text in texts.items()},
            **{name: number for name, number in numbers.items() if abs(number) < 1e15},
        }


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise HttpError(400, f"{name} is {value!r:.60}, expected 1 to {MAX_TEXT} printable characters")
    return value


def whose(request: Request, content: Mapping[str, Any]) -> Tuple[str, str]:
    """Return silo and worker in whose name a request is made, if it may be. Raises HttpError."""
    silo = _text(content, "silo")
    request.check_silo(silo)
    return silo, _text(content, "worker")


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _refused(error: LeaseRefusedError) -> Response:
    content: Dict[str, Any] = {"error": str(error)}
    if error.holder is not None:
        content.update(holder=dict(error.holder), seconds_left=round(error.left, 1))
    return json_response(content, error.status)
