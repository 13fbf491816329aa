"""What both roles of a job do in a pod: read Sedna's environment, run a process in the foreground, report of it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from typing import Callable, Dict, Mapping, Optional, Sequence

from cross_silo.errors import UserError
from cross_silo.objects import Credentials
from cross_silo.sedna.environment import Settings
from cross_silo.sedna.status_report import COMPLETED, FAILED, RUNNING, Report, Reporter, StatusReporter

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0
HOST_PREFIX = "/home/data"
"""Where Sedna mounts a host's directories, if DATA_PATH_PREFIX does not say."""
Look = Callable[[str], Report]
"""Returns how a role stands, given its status."""


def credentials_of(settings: Settings) -> Optional[Credentials]:
    """Return the object store's keys of a container's environment; None where it has none."""
    if not settings.s3_endpoint_url:
        return None
    return Credentials(settings.s3_endpoint_url, settings.access_key_id, settings.secret_access_key)


def host_path(url: str, settings: Settings) -> str:
    """Return ``url`` as the host has it: without the directory under which Sedna mounts the host's."""
    prefix = (settings.data_path_prefix or HOST_PREFIX).rstrip("/")
    return url[len(prefix) :] if url.startswith(f"{prefix}/") else url


class Watch:
    """Tells the local controller how a role stands, where Sedna says where that is; nothing of it ends the role."""

    def __init__(self, settings: Settings, look: Look) -> None:
        """Args: ``look`` reads what the role has written; it is called every two seconds."""
        self._look = look
        self._told: Optional[Report] = None
        self._reporter: Optional[StatusReporter] = None
        if settings.lc_server:
            who = Reporter(settings.worker_name, settings.namespace or "default", settings.job_name or "sedna")
            self._reporter = StatusReporter(settings.lc_server, who)

    def tell(self, status: str = RUNNING) -> None:
        """Report if the round or the status is another one than was told last."""
        if self._reporter is None:
            return
        try:
            report = self._look(status)
        except Exception as error:
            log.warning("no report of this role's status: %s", error)
            report = Report(status)
        if self._told is None or (report.status, report.round) != (self._told.status, self._told.round):
            self._told = report
            self._reporter.report(report)

    def end(self, good: bool) -> None:
        """Tell of the role's end, and wait a little until that is told."""
        if self._reporter is not None:
            self.tell(COMPLETED if good else FAILED)
            self._reporter.close()


class Foreground:
    """One process at a time in this one's place: what ends this one ends that one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Take SIGTERM and SIGINT. Args: ``environment`` is what processes get besides this one's."""
        self._environment: Dict[str, str] = {**os.environ, **environment}
        self._child: Optional["subprocess.Popen[bytes]"] = None
        self.asked_to_end = False
        """A signal came."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def run(self, command: Sequence[str], meanwhile: Callable[[], None] = lambda: None) -> int:
        """Run ``command`` to its end; return its exit status, 128 and the signal's number where one ended it.

        Args:
            meanwhile: is called every two seconds.

        Raises:
            UserError: this process was told to end before.
        """
        self.check()
        self._child = subprocess.Popen(list(command), env=self._environment, stdin=subprocess.DEVNULL)
        if self.asked_to_end:  # the signal came while it was being started
            self._child.terminate()
        while True:
            try:
                status = self._child.wait(WATCH_SECONDS)
                break
            except subprocess.TimeoutExpired:
                meanwhile()
        self._child = None
        return 128 - status if status < 0 else status

    def check(self) -> None:
        """Raise UserError where this process was told to end."""
        if self.asked_to_end:
            raise UserError("ended before the job was, as asked")

    def _on_signal(self, number: int, frame: object) -> None:
        self.asked_to_end = True
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)
