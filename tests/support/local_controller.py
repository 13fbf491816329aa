"""A stand-in for Sedna's local controller and, behind it, the global manager: what they do with a worker's report.

Written from Sedna's pkg/localcontroller/server, localcontroller/managers and globalmanager/.../upstream.go: the
controller answers 200 to a kind that it does not know, and drops the message; the manager drops what does not decode.
"""

import http.server
import json
import threading
from dataclasses import dataclass, field

MANAGERS = ("dataset", "model", "jointinferenceservice", "federatedlearningjob", "incrementallearningjob")
BODY = {"name": str, "namespace": str, "ownerName": str, "ownerKind": str, "kind": str, "status": str}
INFO = {"currentRound": int, "sampleCount": int, "startTime": str, "updateTime": str}


@dataclass
class Job:
    """The status that the global manager makes of reports."""

    conditions: list = field(default_factory=list)
    """(type, reason, message)"""
    metrics: list = field(default_factory=list)
    """Of the Model: {key, value}, both text."""


class LocalController:
    """Listens at ``self.url``. ``replies`` are statuses with which the next requests are turned away."""

    def __init__(self) -> None:
        self.jobs, self.messages, self.dropped, self.replies = {}, [], [], []
        controller = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802 - the name that http.server calls
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, text = controller.answer(self.path, body)
                content = json.dumps({"Status": status, "Message": text}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, body: bytes):
        """Take a worker's message as the controller does."""
        if self.replies:
            return self.replies.pop(0), "busy"
        parts = path.split("/")
        if len(parts) != 5 or parts[1:3] != ["sedna", "workers"] or parts[4] != "info":
            return 404, "404: Page Not Found"
        try:
            content = json.loads(body, parse_constant=refuse_constant)
            check(content, BODY, required=True)
        except ValueError as error:
            return 400, f"read worker(name={parts[3]}) message body failed, error: {error}"
        if content["name"] != parts[3]:
            return 400, (
                f"worker name(name={parts[3]}) in the api is different from that(name={content['name']}) "
                "in the message body"
            )
        self.messages.append(content)
        if content["ownerKind"] not in MANAGERS:
            self.dropped.append(content)
        else:
            self.upstream(content)
        return 200, "OK"

    def upstream(self, content: dict) -> None:
        """Do with a message what the global manager does."""
        info, results = content.get("ownerInfo") or {}, content.get("results") or []
        try:
            check(info, INFO)
            for result in results:
                check(result, {"format": str, "url": str, "metrics": dict})
        except ValueError:
            self.dropped.append(content)
            return
        job = self.jobs.setdefault((content["namespace"], content["ownerName"]), Job())
        if results and results[0].get("metrics"):
            metrics = results[0]["metrics"].items()
            job.metrics = [{"key": k, "value": v if isinstance(v, str) else json.dumps(v)} for k, v in metrics]
        if info.get("currentRound", 0) > 0:
            text = f"Round {info['currentRound']} reaches at {info['updateTime']}"
            job.conditions.append(("Training", "DoTraining", text))


def check(content, fields, required=False):
    """Decode as Go's typed JSON does: a value of another type is an error."""
    if not isinstance(content, dict):
        raise ValueError(f"cannot unmarshal {type(content).__name__}")
    for name, kind in fields.items():
        if name not in content and not required:
            continue
        value = content.get(name)
        if type(value) is not kind and not (kind is dict and value is None):
            raise ValueError(f"cannot unmarshal {value!r} into field {name} of type {kind.__name__}")


def refuse_constant(text):
    """NaN and Infinity are no JSON."""
    raise ValueError(f"invalid character in {text}")
