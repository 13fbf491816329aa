"""A polite request to end (SIGTERM): obeyed at once while waiting, between two steps while training.

An exception out of a signal handler inside MindSpore's import or compilation would abort the process.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import Any, Iterator


class Leaving(BaseException):  # not an Exception: nothing on the way may take it for a fault
    """The request is being obeyed."""


class Leave:
    """Remembers the request."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False

    def on_sigterm(self) -> "Leave":
        """Let SIGTERM be the request."""
        signal.signal(signal.SIGTERM, self.request)
        return self

    def request(self, *_: Any) -> None:
        """Ask to end. Raises Leaving inside :meth:`at_once`."""
        self.requested = True
        if self._at_once:
            raise Leaving

    def check(self) -> None:
        """Raise Leaving if the request was made."""
        if self.requested:
            raise Leaving

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within, the request ends what is being done: only Python code that waits or transfers belongs here."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False
