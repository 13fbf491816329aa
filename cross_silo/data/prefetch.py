"""Runs an iterator ahead of its consumer, in a thread."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Deque, Generic, Iterator, Optional, TypeVar

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Takes items from an iterator up to ``depth`` ahead; an error of the iterator reaches the consumer."""

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._state: _State[Item] = _State(items, depth)
        # The thread holds the state alone, so that a forgotten prefetcher is collected and ends its thread.
        # The same call runs at the interpreter's exit, while what the iterator uses still exists.
        self._stop = weakref.finalize(self, self._state.stop)
        self._state.thread.start()

    def take(self) -> Item:
        """Return the next item, waiting for it if need be; raises what the iterator has raised."""
        return self._state.take()

    def stop(self) -> None:
        """End the thread; items that wait are dropped."""
        self._stop()


class _State(Generic[Item]):
    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._depth = depth
        self._ready: Deque[Item] = deque()
        self._error: Optional[BaseException] = None
        self._stopped = False
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def take(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._error is not None or self._stopped)
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            raise self._error or RuntimeError("the prefetcher was stopped")

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()
        if self.thread is not threading.current_thread():
            self.thread.join()

    def _run(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._ready) < self._depth or self._stopped)
                    if self._stopped:
                        return
                    self._ready.append(item)
                    self._changed.notify_all()
            error: BaseException = RuntimeError("the iterator has come to its end")
        except BaseException as raised:  # noqa: BLE001 - it belongs to the consumer, whatever it is
            error = raised
        finally:
            del self._items  # closes what the iterator holds, in the thread that opened it
        with self._changed:
            self._error = error
            self._changed.notify_all()
