"""Federated averaging: the mean of the silos' models, weighted by samples (McMahan et al. 2017, Algorithm 1).

A silo sends its weights times its samples; the sum and its division by all samples are done in place, in pieces
that stay in the processor's cache.
"""

from __future__ import annotations

import threading
from typing import Callable, Mapping, Optional

import numpy as np

from cross_silo.aggregation.participant import Key
from cross_silo.protocol.layout import ModelMessage

PIECE = 65_536
"""Values of a tensor worked on at a time: with the update's they fill half a megabyte."""

Tensors = Mapping[str, np.ndarray]
"""Flat float32 arrays by name."""


class NonFiniteAverageError(ArithmeticError):
    """The sum of finite updates is beyond float32."""


def add(total: Tensors, update: Tensors, first: bool) -> None:
    """Add ``update`` to ``total``, or put it there where it is the first."""
    for name, out in total.items():
        if first:
            np.copyto(out, update[name])
        else:
            np.add(out, update[name], out=out)


def divide(total: Tensors, samples: int) -> None:
    """Divide a sum by ``samples``. Raises NonFiniteAverageError."""
    divisor = np.float32(samples)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, out in total.items():
            for start in range(0, len(out), PIECE):
                piece = out[start : start + PIECE]
                np.divide(piece, divisor, out=piece)
                _check(name, piece)


def add_and_divide(total: Tensors, update: Tensors, first: bool, samples: int) -> None:
    """Add the last ``update`` and divide by ``samples``.

    Raises:
        NonFiniteAverageError: a mean is infinite or not a number.
    """
    divisor = np.float32(samples)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, out in total.items():
            new = update[name]
            for start in range(0, len(out), PIECE):
                piece, added = out[start : start + PIECE], new[start : start + PIECE]
                if not first:
                    added = np.add(piece, added, out=piece)
                np.divide(added, divisor, out=piece)
                _check(name, piece)


def _check(name: str, piece: np.ndarray) -> None:
    if not np.isfinite(np.add.reduce(piece)) and not np.isfinite(piece).all():
        raise NonFiniteAverageError(f"the mean of tensor {name!r} is beyond float32")


class WeightedSum:
    """The sum of one round's updates at a time. Whoever calls a method holds :attr:`lock`."""

    def __init__(self, place: Callable[[], ModelMessage]) -> None:
        """Args: ``place`` finds memory for a round's sum."""
        self.lock = threading.Lock()
        """To be held from asking whether an update is the last to noting that it is in the sum."""
        self.place: Optional[ModelMessage] = None
        """Where the sum is, and the mean once the last update is in."""
        self._find_place = place
        self._key: Optional[Key] = None

    def add(self, key: Key, update: Tensors, last_of: Optional[int]) -> None:
        """Add one update of round ``key``; the first one of a round begins its sum.

        Args:
            last_of: all samples of the round where this update is the last one; the sum becomes the mean.
        """
        first = key != self._key
        if first:
            self.place = self._find_place()
            self._key = key
        if last_of is None:
            add(self.place.tensors, update, first)
        else:
            add_and_divide(self.place.tensors, update, first, last_of)

    def divide(self, samples: int) -> None:
        """Make the mean of a sum whose last update was not known as such when it was added."""
        divide(self.place.tensors, samples)

    def reset(self) -> None:
        """Let the next update begin a sum, whatever its round's number."""
        self._key = None
