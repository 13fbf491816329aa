"""How far a silo's pass or upload is: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Callable, Optional, Type

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

LINE_SECONDS = 10.0
"""From one line in a log to the next."""


class PassProgress:
    """Counts to a total, for ``with``. Where standard output is no terminal it writes a line now and then."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str = "images",
        console: Optional[Console] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; ``what`` is being done to ``total`` of ``unit``."""
        self.done = 0
        """Of the total, those done before included."""
        self._what, self._total, self._unit = what, total, unit
        self._clock = clock
        self._began = self._told = clock()
        self._before = 0
        console = console or Console()
        self._is_terminal = console.is_terminal
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} " + f"{unit}/s"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not self._is_terminal)
        self._task = self._bar.add_task(what, total=total, rate=0.0)

    def __enter__(self) -> "PassProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._bar.stop()
        if kind is None:
            self._line()

    @property
    def rate(self) -> float:
        """Of the unit a second, since this process began with it."""
        return (self.done - self._before) / max(self._clock() - self._began, 1e-9)

    def begin(self, done: int) -> None:
        """Start the clock; ``done`` were done by an earlier process."""
        self.done = self._before = done
        self._began = self._told = self._clock()
        self._bar.update(self._task, completed=done)

    def advance(self, count: int) -> None:
        """Count ``count`` more."""
        self.done += count
        self._bar.update(self._task, completed=self.done, rate=self.rate)
        if not self._is_terminal and self._clock() - self._told >= LINE_SECONDS:
            self._told = self._clock()
            self._line()

    def _line(self) -> None:
        log.info("%s: %d of %d %s, %.1f %s/s", self._what, self.done, self._total, self._unit, self.rate, self._unit)
