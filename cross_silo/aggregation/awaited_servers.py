"""The job's other servers as something that rounds wait for: none begins without them, and not for ever."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from cross_silo.aggregation.participant import Answer, wait_for
from cross_silo.aggregation.shards import Shards
from cross_silo.aggregation.windows import START, Window
from cross_silo.config.federated import Round


class AwaitedServers:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, shards: Optional[Shards]) -> None:
        """Args: ``shards`` is None for a job with one server."""
        self._shards = shards
        self._since: Optional[float] = None

    def refusal(self) -> Optional[Answer]:
        """Return what a silo that wants to join is told; None where all servers are there."""
        away = self._shards.away() if self._shards is not None else ""
        return wait_for(f"a round needs every server; {away}") if away else None

    def shown(self) -> List[Dict[str, Any]]:
        """Return what people see of the servers: index, address, and why one is lost."""
        return self._shards.shown() if self._shards is not None else []

    def overdue(self, settings: Round, now: float) -> str:
        """Say that a server has been awaited for the whole start window; it begins anew then. Empty: it has not."""
        since = self._shards.away_since() if self._shards is not None else None
        if since is None:
            self._since = None
            return ""
        self._since = max(since, self._since or since)
        window = Window(START, settings.start_fl_job_time_window / 1000, self._since)
        if window.left(now) > 0:
            return ""
        self._since = now
        return f"{window} ended; {self._shards.away()}"
