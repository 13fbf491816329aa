"""What a worker tells Sedna's local controller of its training, from a thread of its own.

``POST http://{LC_SERVER}/sedna/workers/{name}/info``. The controller routes by ``ownerKind`` and drops what it does not
know, silently; ``currentRound`` must be a whole number and ``metrics`` an object, or the report is dropped too.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional

log = logging.getLogger(__name__)

OWNER_KIND = "federatedlearningjob"
KIND = "train"
RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
"""States of a worker."""
WAITING = 64
"""Reports that wait at most; beyond, the oldest are left out: the newest say how the job stands."""
TRIES, PAUSE_SECONDS, REQUEST_SECONDS = 5, 3.0, 10.0
END_SECONDS = 30.0
"""Time that the last reports have when the worker ends."""
TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True)
class Reporter:
    """Whose reports they are."""

    worker: str
    namespace: str
    job: str


@dataclass(frozen=True)
class Report:
    """How a worker stands."""

    status: str
    round: int = 0
    """Good rounds so far; 0: none yet, and the controller makes no condition of it."""
    samples: int = 0
    """Images that the worker trains on."""
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    """Numbers by name; what is not finite is left out."""
    model_url: str = ""
    """Where the model is, as the host of the controller has it; empty: there is none yet."""


def message(reporter: Reporter, report: Report, started: float, now: float) -> Dict[str, Any]:
    """Return the body of a report. Times are Unix time; they are told in local time, without a zone, as Sedna does."""
    numbers = {name: value for name, value in report.metrics.items() if value is not None and math.isfinite(value)}
    body: Dict[str, Any] = {
        "name": reporter.worker,
        "namespace": reporter.namespace,
        "ownerName": reporter.job,
        "ownerKind": OWNER_KIND,
        "ownerInfo": {
            "currentRound": report.round,
            "sampleCount": report.samples,
            "startTime": time.strftime(TIME, time.localtime(started)),
            "updateTime": time.strftime(TIME, time.localtime(now)),
        },
        "kind": KIND,
        "status": report.status,
    }
    if report.model_url:
        ending = report.model_url.rpartition("/")[2].rpartition(".")[2]
        body["results"] = [{"format": ending, "url": report.model_url, "metrics": numbers}]
    return body


class StatusReporter:
    """Sends reports in their order; whoever reports waits for nothing, and an absent controller ends nothing."""

    def __init__(
        self,
        server: str,
        reporter: Reporter,
        tries: int = TRIES,
        pause: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start the thread.

        Args:
            server: LC_SERVER, as http://host:port.
            tries: for each report; then it is left out, and the log says so.
            pause: seconds between two tries.
        """
        name = urllib.parse.quote(reporter.worker, safe="")
        base = server if "://" in server else f"http://{server}"
        self._url = f"{base.rstrip('/')}/sedna/workers/{name}/info"
        self._reporter, self._tries, self._pause, self._clock = reporter, tries, pause, clock
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this host
        self._started = clock()
        self._reports: "queue.Queue[Optional[bytes]]" = queue.Queue(WAITING)
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._run, name="status reports", daemon=True)
        self._thread.start()

    def report(self, report: Report) -> None:
        """Hand a report over; returns at once."""
        body = message(self._reporter, report, self._started, self._clock())
        self._put(json.dumps(body).encode())

    def close(self, seconds: float = END_SECONDS) -> None:
        """Give what still waits ``seconds``, and end the thread."""
        self._deadline = time.monotonic() + seconds
        self._put(None)
        self._thread.join(seconds + REQUEST_SECONDS)

    def _put(self, item: Optional[bytes]) -> None:
        while True:
            try:
                self._reports.put_nowait(item)
                return
            except queue.Full:
                try:
                    self._reports.get_nowait()
                except queue.Empty:
                    pass

    def _run(self) -> None:
        while True:
            body = self._reports.get()
            if body is None:
                return
            self._deliver(body)

    def _deliver(self, body: bytes) -> None:
        problems: List[str] = []
        for left in range(self._tries - 1, -1, -1):
            problem = self._post(body)
            if problem is None:
                return
            problems.append(problem)
            if time.monotonic() > self._deadline:
                break
            if left:
                self._wait()
        log.warning("the local controller at %s does not take a report: %s", self._url, problems[-1])

    def _wait(self) -> None:
        """Pause before another try, no longer than the worker's end allows."""
        end = time.monotonic() + self._pause
        while time.monotonic() < min(end, self._deadline):
            time.sleep(min(0.1, self._pause))

    def _post(self, body: bytes) -> Optional[str]:
        """Send one report; what went wrong, or None."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as reply:
                reply.read(65536)
            return None
        except urllib.error.HTTPError as error:
            said = error.read(1000).decode("utf-8", errors="replace").strip()
            return f"{error.code} {said}"
        except (OSError, ValueError) as error:
            return str(getattr(error, "reason", error)) or type(error).__name__
        except Exception as error:  # nothing of a report may end the training
            return f"{type(error).__name__}: {error}"
