"""Receiving an update: a bounded number of buffers, and all checks before anything is added to the sum."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Dict, Iterator, List, Mapping

import numpy as np

from cross_silo.aggregation.refusals import NON_FINITE, TENSORS
from cross_silo.protocol.http_service import PIECE_BYTES, HttpError, Request
from cross_silo.protocol.layout import aligned_bytes
from cross_silo.protocol.messages import Message


class InvalidUpdateError(ValueError):
    """An update that cannot be averaged; the message names the tensor, ``reason`` is one of those in refusals."""

    def __init__(self, message: str, reason: str = TENSORS) -> None:
        super().__init__(message)
        self.reason = reason


class UploadPool:
    """At most ``count`` uploads are held at once; others wait with their bodies unread."""

    def __init__(self, count: int, size: int) -> None:
        """Args: ``size`` is the bytes of the largest upload. Memory is taken as it is needed."""
        self.size = size
        self._places = threading.BoundedSemaphore(count)
        self._lock = threading.Lock()
        self._free: List[np.ndarray] = []

    def reserve(self, timeout: float) -> bool:
        """Keep a place, for :meth:`buffer` or until :meth:`free`. False: none is free within ``timeout`` seconds."""
        return self._places.acquire(timeout=timeout)

    def free(self) -> None:
        """Give back a place that was kept."""
        self._places.release()

    @contextmanager
    def buffer(self, timeout: float, reserved: bool = False) -> Iterator[memoryview]:
        """Lend a buffer. Raises HttpError where none becomes free within ``timeout`` seconds.

        Args:
            reserved: take the place that was kept.
        """
        if not reserved and not self.reserve(timeout):
            raise HttpError(503, "other uploads take all places")
        try:
            with self._lock:
                buffer = self._free.pop() if self._free else aligned_bytes(self.size)
            try:
                yield memoryview(buffer)
            finally:
                with self._lock:
                    self._free.append(buffer)
        finally:
            self.free()


def receive(request: Request, view: memoryview, seconds: float) -> bool:
    """Read a body into ``view``; tell whether all float32 numbers in it are finite for certain.

    Each piece is summed up while it is in the cache, as if all of it were numbers: a NaN or an infinity anywhere at
    a multiple of four bytes, where tensors lie, shows in the sum. The reverse does not hold.

    Raises:
        OSError: the peer stalls, leaves, or takes longer than ``seconds``.
    """
    deadline = time.monotonic() + seconds
    words = np.frombuffer(view, np.uint8)[: len(view) // 4 * 4].view("<f4")
    finite = True
    with np.errstate(all="ignore"):
        for start in range(0, len(view), PIECE_BYTES):
            request.read_into(view[start : start + PIECE_BYTES])
            finite = finite and bool(np.isfinite(np.add.reduce(words[start // 4 : (start + PIECE_BYTES) // 4])))
            if time.monotonic() > deadline:
                raise TimeoutError(f"the upload took more than {seconds:g} s")
    return finite


def check_update(message: Message, sizes: Mapping[str, int], finite: bool) -> Dict[str, np.ndarray]:
    """Return the tensors of a RequestUpdateModel, flat float32 by name.

    Args:
        sizes: the model's tensors; the update must have exactly these.
        finite: the numbers need no further look.

    Raises:
        InvalidUpdateError: names, sizes or values are not those of an update of this model.
    """
    if message["upload_compress_type"] or message["compress_feature_map"] or message["index_array"] or message["sign"]:
        raise InvalidUpdateError("compressed updates are not taken")
    tensors: Dict[str, np.ndarray] = {}
    for feature in message["feature_map"] or ():
        name, values = feature["weight_fullname"], feature["data"]
        if name not in sizes:
            raise InvalidUpdateError(f"tensor {_shown(name)} is not in the model")
        if name in tensors:
            raise InvalidUpdateError(f"tensor {name!r} is there twice")
        count = 0 if values is None else len(values)
        if count != sizes[name]:
            raise InvalidUpdateError(f"tensor {name!r} has {count} values, expected {sizes[name]}")
        tensors[name] = values if values is not None else np.empty(0, "<f4")
    missing = next((name for name in sizes if name not in tensors), None)
    if missing is not None:
        raise InvalidUpdateError(f"tensor {missing!r} is missing")
    if not np.isfinite(message["upload_loss"]):
        raise InvalidUpdateError(f"upload_loss is {message['upload_loss']}, expected a finite number", NON_FINITE)
    if not finite:
        for name, values in tensors.items():
            wrong = np.flatnonzero(~np.isfinite(values))
            if len(wrong):
                first = f"the first is {values[wrong[0]]} at {wrong[0]}"
                raise InvalidUpdateError(f"tensor {name!r} has {len(wrong)} non-finite values, {first}", NON_FINITE)
    return tensors


def _shown(name: object) -> str:
    return repr(name if name is None else str(name)[:200])
