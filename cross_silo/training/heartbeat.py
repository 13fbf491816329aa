"""Keeps a silo's lease alive while its worker trains, and hears of the job's end meanwhile."""

from __future__ import annotations

import logging
import threading
from typing import Callable, Dict, Optional

from cross_silo.errors import UserError
from cross_silo.protocol.client import AggregationClient, HeartbeatReply, LeaseLost

log = logging.getLogger(__name__)


class Heartbeat:
    """A thread that renews the lease every third of it."""

    def __init__(self, client: AggregationClient, seconds: float, info: Callable[[], Dict]) -> None:
        """Start at once.

        Args:
            seconds: the lease.
            info: what to tell with each beat (phase, iteration, epoch, step, loss).
        """
        self.state = "running"
        """The job's state, as last heard."""
        self.heard: Optional[HeartbeatReply] = None
        """The newest reply."""
        self.lost: Optional[str] = None
        """Why the lease is gone; None while it is held."""
        self._client = client
        self._seconds = seconds
        self._info = info
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            try:
                self.heard = self._client.heartbeat(**self._info())
                self.state = self.heard.state
            except LeaseLost as error:
                self.lost = str(error)
                return
            except (UserError, OSError) as error:  # the round's own requests decide when a server is gone for good
                log.warning("heartbeat not delivered: %s", error)
