"""Federated averaging: the mean of the silos' models, weighted by samples (McMahan et al. 2017, Algorithm 1).

A silo sends its weights times its samples; the sum and its division by all samples are done in place, in pieces
that stay in the processor's cache.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Callable, Optional

import numpy as np

from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.update import CheckedUpdate, Tensors
from cross_silo.protocol.layout import ModelMessage

PIECE = 65_536
"""Values of a tensor worked on at a time: with the update's they fill half a megabyte."""

Place = Callable[[], ModelMessage]
"""Finds memory for a new model; TimeoutError where there is none."""


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


class RoundSum(ABC):
    """What the updates of one round at a time come to. Whoever calls a method holds :attr:`lock`."""

    def __init__(self, place: Place) -> None:
        self.lock = threading.Lock()
        """To be held from asking whether an update is the last to noting that it is in the sum."""
        self.place: Optional[ModelMessage] = None
        """Where the new model is once the last update is in."""
        self._find_place = place
        self._key: Optional[Key] = None

    @abstractmethod
    def add(self, key: Key, update: CheckedUpdate, last_of: Optional[int]) -> None:
        """Add one update of round ``key``; the first one of a round begins anew.

        Args:
            last_of: all samples of the round where this update is the last one; the new model is made with it.

        Raises:
            NonFiniteAverageError: a value of the new model is infinite or not a number.
            TimeoutError: there is no memory for it.
        """

    @abstractmethod
    def divide(self, samples: int) -> None:
        """Make the new model of a round whose last update was not known as such when it was added."""

    def reset(self) -> None:
        """Let the next update begin a sum, whatever its round's number."""
        self._key = None


class WeightedSum(RoundSum):
    """Makes the mean, weighted by samples; each update may be forgotten as soon as it is in the sum."""

    def add(self, key: Key, update: CheckedUpdate, last_of: Optional[int]) -> None:
        first = self._begins(key)
        if last_of is None:
            add(self.place.tensors, update.tensors, first)
        else:
            add_and_divide(self.place.tensors, update.tensors, first, last_of)

    def divide(self, samples: int) -> None:
        divide(self.place.tensors, samples)

    def _begins(self, key: Key) -> bool:
        """Find memory for a round's sum where ``key`` is another round than the last one; tell whether it is."""
        if key == self._key:
            return False
        self.place = self._find_place()
        self._key = key
        return True
