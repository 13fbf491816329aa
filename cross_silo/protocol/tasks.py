"""Calls that run at the same time, each in a thread of its own."""

from __future__ import annotations

import threading
from typing import Any, Callable, List, Optional, Sequence


class Task:
    """One call, begun at once."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._result: Any = None
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Return once the call has ended, whatever came of it; False: not within ``timeout`` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Wait; return what the call did, or raise what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result


def at_once(calls: Sequence[Callable[[], Any]]) -> List[Any]:
    """Make all calls, the last one in this thread; return their results, or raise the first error once all ended."""
    tasks = [Task(call) for call in calls[:-1]]
    try:
        last = [call() for call in calls[-1:]]
    finally:
        for task in tasks:
            task.wait()
    return [task.result() for task in tasks] + last
