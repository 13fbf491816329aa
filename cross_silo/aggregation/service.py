"""The engine's three routes over HTTP: startFLJob, updateModel, getModel."""

from __future__ import annotations

import json
import math
import time
from typing import Dict, Mapping, Optional, Tuple

from cross_silo.aggregation.aggregator import Aggregator, ModelAnswer
from cross_silo.aggregation.gate import Gate
from cross_silo.aggregation.job import Job
from cross_silo.aggregation.participant import Answer
from cross_silo.aggregation.refusals import MESSAGE, NORM
from cross_silo.aggregation.shard_link import ServerLostError
from cross_silo.aggregation.shard_uploads import ShardUpload, ShardUploads
from cross_silo.aggregation.shards import ShardGoneError
from cross_silo.aggregation.uploads import InvalidUpdateError, UploadPool, receive
from cross_silo.protocol import headers
from cross_silo.protocol.http_service import HttpError, Request, Response, Route, text_response
from cross_silo.protocol.limits import OneAtATime, RateLimit
from cross_silo.protocol.messages import Message, decode, encode
from cross_silo.protocol.schema import DISABLED, NOT_READY, OUT_OF_TIME, REQUEST_ERROR, SAFEMODE
from cross_silo.protocol.verifier import InvalidMessageError, Limits

MAX_NAME = 128
JOINS = (50.0, 200)
"""Attempts of a silo to join: a second, and at once."""
MAX_ATTEMPT = 2**31 - 1
STATS = ("steps", "train_seconds", "loss")


class EngineRoutes:
    """Answers the engine's messages."""

    def __init__(
        self, aggregator: Aggregator, job: Job, pool: UploadPool, shards: Optional[ShardUploads] = None
    ) -> None:
        """Set up.

        Args:
            pool: has the buffers that updates are received into.
            shards: where the job has several servers: how an update comes together.
        """
        self._aggregator = aggregator
        self._job = job
        self._pool = pool
        self._shards = shards
        self._gate = Gate(job, aggregator.models)
        tensors = len(job.sizes)
        self._joins = RateLimit(*JOINS)
        self._uploading = OneAtATime()
        self._limits = Limits(tables=tensors + 64, strings=2 * tensors + 64)

    def routes(self) -> Dict[Tuple[str, str], Route]:
        """Return what serves which path."""
        return {
            ("POST", "/startFLJob"): self.start_round,
            ("POST", "/updateModel"): self.update_model,
            ("POST", "/getModel"): self.get_model,
        }

    def _headers(self, **more: str) -> Dict[str, str]:
        return {headers.INSTANCE: self._job.instance, **self._aggregator.status(), **more}

    def start_round(self, request: Request) -> Response:
        """Answer startFLJob: a silo joins the round in progress."""
        try:
            message = decode(request.body(), "RequestFLJob")
        except InvalidMessageError:
            return self._joined(Answer(REQUEST_ERROR, "The schema of RequestFLJob is invalid."))
        silo = message["fl_id"]
        if silo is None or message["fl_name"] is None or message["timestamp"] is None:
            return text_response("Verify flatbuffers schema failed for RequestFLJob.", self._headers())
        request.check_silo(silo)
        if not self._joins.allow(silo):
            raise HttpError(429, f"silo {silo[:MAX_NAME]!r} asks to join too often")
        if not self._aggregator.running:
            return text_response(DISABLED, self._headers())
        problem = self._problem_with(silo)
        if problem:
            return self._joined(Answer(REQUEST_ERROR, problem))
        answer = self._join(request, silo, message["data_size"])
        return text_response(SAFEMODE, self._headers()) if answer is None else self._joined(answer)

    def _join(self, request: Request, silo: str, samples: int) -> Optional[Answer]:
        worker = request.header(headers.WORKER) or ""
        return self._aggregator.start_round(silo, worker, samples, _wait(request))

    def _problem_with(self, silo: str) -> str:
        enrolled = self._job.config.silo_names
        if enrolled and silo not in enrolled:
            return f"silo {silo[:MAX_NAME]!r} is not enrolled; expected one of {', '.join(enrolled)}"
        if len(silo) > MAX_NAME or not silo.isprintable():
            return f"fl_id has {len(silo)} characters, expected at most {MAX_NAME} printable ones"
        return ""

    def _joined(self, answer: Answer) -> Response:
        told = self._headers(**({headers.VERDICT: headers.PENDING} if answer.waits else {}))
        if answer.key is not None:  # by now the next round may be in progress
            told[headers.ITERATION], told[headers.ATTEMPT] = map(str, answer.key)
        if self._shards is not None:
            told.update(self._shards.headers)
        config = self._job.config
        plan = {
            "server_mode": config.server_mode,
            "fl_name": config.fl_name,
            "iterations": config.fl_iteration_num,
            "epochs": config.client.client_epoch_num,
            "mini_batch": config.client.client_batch_size,
            "lr": config.client.client_learning_rate,
        }
        body = encode(
            "ResponseFLJob",
            {
                "retcode": answer.code,
                "reason": answer.reason,
                "iteration": min(int(told[headers.ITERATION]), MAX_ATTEMPT),
                "is_selected": answer.ok,
                "next_req_time": _milliseconds(0.2),
                "fl_plan_config": plan,
                "feature_map": [],
                "timestamp": _milliseconds(),
                "upload_sparse_rate": 1.0,
            },
        )
        return Response(200, body, headers=told)

    def update_model(self, request: Request) -> Response:
        """Answer updateModel: one silo's update, received once, checked, then added to the sum."""
        if request.length > self._pool.size:
            raise HttpError(413, f"an update of {request.length} bytes, expected at most {self._pool.size}")
        with self._uploading.hold(self._uploader(request)) as alone:
            if not alone:
                raise HttpError(503, "an upload of this silo is under way")
            if self._shards is None:
                return self._received(request)
            with self._shards.upload(request) as upload:
                return self._received(request, upload)

    def _received(self, request: Request, upload: Optional[ShardUpload] = None) -> Response:
        """Take an update's body, and what follows from it."""
        if upload is not None and upload.problem:
            return self._pushed(Answer(OUT_OF_TIME, upload.problem))
        seconds = self._job.config.round.update_model_time_window / 1000
        with self._pool.buffer(seconds, reserved=upload is not None and upload.has_place) as buffer:
            view = buffer[: request.length]
            finite = receive(request, view, max(seconds, 60.0))
            if not self._aggregator.running:
                return self._not_running(request)
            return self._pushed(self._push(request, view, finite, upload))

    def _not_running(self, request: Request) -> Response:
        """Answer an update to a job that makes no rounds."""
        return text_response(DISABLED, self._headers())

    @staticmethod
    def _uploader(request: Request) -> str:
        """Return who uploads: the silo where it is known before the body, else the worker that it says it is."""
        return request.identity.name if request.identity is not None else request.header(headers.WORKER) or ""

    def _push(self, request: Request, view: memoryview, finite: bool, upload: Optional[ShardUpload]) -> Answer:
        try:
            message = decode(view, "RequestUpdateModel", self._limits)
        except InvalidMessageError as error:
            return self._no_update(request, f"The schema of RequestUpdateModel is invalid. {error}")
        if any(message[name] is None for name in ("fl_id", "timestamp", "feature_map")):
            return self._no_update(request, "Verify flatbuffers schema failed for RequestUpdateModel.")
        silo, iteration, worker = message["fl_id"], message["iteration"], request.header(headers.WORKER) or ""
        request.check_silo(silo)
        answer = self._may_push(request, silo, iteration)
        if not answer.ok:
            return answer
        self._complete(request, message, answer.samples)
        try:
            check = upload.check(silo, worker, answer, message["upload_loss"]) if upload is not None else None
            update = self._gate.check(message, finite, answer.samples, _stats(request), request.length, check)
        except (ShardGoneError, ServerLostError) as error:
            now = self._may_push(request, silo, iteration)
            return Answer(OUT_OF_TIME, str(error)) if now.ok else now
        except InvalidUpdateError as error:
            now = self._may_push(request, silo, iteration)
            return self._refuse(request, silo, now, error) if now.ok else now
        pushed = self._aggregator.push(silo, worker, iteration, _attempt(request), update)
        if upload is not None:
            upload.ended(pushed)
        return pushed

    def _may_push(self, request: Request, silo: str, iteration: int) -> Answer:
        return self._aggregator.may_push(silo, request.header(headers.WORKER) or "", iteration, _attempt(request))

    def _complete(self, request: Request, message: Message, samples: int) -> None:
        """Add to an update of ``samples`` what its client never sends."""

    def _no_update(self, request: Request, problem: str) -> Answer:
        silo = request.identity.name if request.identity is not None else ""
        self._aggregator.refusals.add(silo, MESSAGE, problem)
        return Answer(REQUEST_ERROR, problem)

    def _refuse(self, request: Request, silo: str, taken: Answer, error: InvalidUpdateError) -> Answer:
        """Count a refused update; of one too far away, let its silo wait for the next round."""
        self._aggregator.refusals.add(silo, error.reason, str(error))
        if error.reason != NORM or taken.key is None:
            return Answer(REQUEST_ERROR, f"Verify model feature map failed: {error}")
        why = f"its update was refused: {error}"
        self._aggregator.exclude(silo, request.header(headers.WORKER) or "", taken.key, why)
        return Answer(OUT_OF_TIME, f"round {taken.key[0]} goes on without silo {silo}: {why}")

    def _pushed(self, answer: Answer) -> Response:
        values = {"retcode": answer.code, "reason": answer.reason, "next_req_time": _milliseconds(0.05)}
        body = encode("ResponseUpdateModel", {**values, "timestamp": _milliseconds()})
        refused = {} if answer.ok else {headers.REASON: headers.quote(answer.reason)}
        return Response(200, body, headers=self._headers(**refused))

    def get_model(self, request: Request) -> Response:
        """Answer getModel: the model of a round that is over, or 201 (at once, or after the wait asked for)."""
        try:
            message: Message = decode(request.body(), "RequestGetModel")
        except InvalidMessageError:
            return self._no_model(REQUEST_ERROR, "The schema of RequestGetModel is invalid.", {})
        answer = self._model(request, message["iteration"])
        verdict = {headers.VERDICT: answer.verdict}
        if answer.reading is None:
            if answer.reason:
                verdict[headers.REASON] = headers.quote(answer.reason)
            return self._no_model(NOT_READY, answer.reason, verdict)
        reading = answer.reading

        def sent(size: int) -> None:
            reading.close()
            self._aggregator.sent(size)

        verdict[headers.MODEL_ROUND] = str(reading.round)
        head, body = b"", reading.buffer
        if self._shards is not None and request.header(headers.SHARD):
            verdict[headers.TAG] = reading.tag
            head, body = reading.part(self._shards.names)
        told = {**self._headers(**verdict), **answer.status}
        return Response(200, body, headers=told, head=head, sent=sent, settle=answer.settle)

    def _model(self, request: Request, iteration: int) -> ModelAnswer:
        worker = request.header(headers.WORKER) or ""
        return self._aggregator.model(iteration, _attempt(request), worker, _wait(request))

    def _no_model(self, code: int, reason: str, verdict: Mapping[str, str]) -> Response:
        told = self._headers(**verdict)
        iteration = min(int(told[headers.ITERATION]), MAX_ATTEMPT)
        values = {"retcode": code, "reason": reason, "iteration": iteration, "timestamp": _milliseconds(0.05)}
        return Response(200, encode("ResponseGetModel", values), headers=told)


def _milliseconds(later: float = 0.0) -> str:
    """Return Unix time in milliseconds as the engine writes it."""
    return str(int((time.time() + later) * 1000))


def _wait(request: Request) -> float:
    """Return the seconds that the client lets its request wait."""
    return headers.number(request.header(headers.WAIT), headers.MAX_WAIT) or 0.0


def _attempt(request: Request) -> Optional[int]:
    """Return the attempt that the client says it joined; the engine's own clients say nothing."""
    value = headers.number(request.header(headers.ATTEMPT), MAX_ATTEMPT)
    return None if value is None else int(value)


def _stats(request: Request) -> Dict[str, float]:
    """Return the numbers that an update came with."""
    try:
        told = json.loads(request.header(headers.STATS) or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    numbers = {name: told[name] for name in STATS if type(told.get(name)) in (int, float)}
    return {name: value for name, value in numbers.items() if math.isfinite(value) and abs(value) < 1e15}
