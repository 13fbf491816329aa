"""Rules that need all values of a coordinate at once: the updates of a round are held until the last one is in."""

from __future__ import annotations

from abc import abstractmethod
from typing import Dict, List, Optional

import numpy as np

from cross_silo.aggregation.averaging import NonFiniteAverageError, Place, RoundSum
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.sorting import sort_rows
from cross_silo.aggregation.update import CheckedUpdate, Tensors
from cross_silo.protocol.layout import aligned_bytes

PIECE = 16_384
"""Values of a coordinate range worked on at a time: those of ten updates fit into a core's cache."""


class HeldUpdates(RoundSum):
    """Holds a copy of each update's weights, and makes the new model of each coordinate's sorted values.

    Memory beside that of the mean: a model for each silo of a round, kept for the next rounds. Every update counts
    alike, whatever its samples.
    """

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._held: List[Dict[str, np.ndarray]] = []
        self._free: List[Dict[str, np.ndarray]] = []

    @abstractmethod
    def combine(self, rows: List[np.ndarray], out: np.ndarray) -> None:
        """Write one value for each column of ``rows`` to ``out``; the columns are sorted, ``rows`` may change."""

    def add(self, key: Key, update: CheckedUpdate, last_of: Optional[int]) -> None:
        if key != self._key:
            self._forget()
            self._key = key
        copy = self._free.pop() if self._free else _like(update.tensors)
        self._held.append(copy)
        for name, out in copy.items():
            np.divide(update.tensors[name], np.float32(update.samples), out=out)
        if last_of is not None:
            self.divide(last_of)

    def divide(self, samples: int) -> None:
        self.place = self._find_place()
        spaces = [np.empty(PIECE, np.float32) for _ in range(len(self._held) + 1)]
        with np.errstate(over="ignore"):
            for name, out in self.place.tensors.items():
                for start in range(0, len(out), PIECE):
                    made = out[start : start + PIECE]
                    *rows, spare = [space[: len(made)] for space in spaces]
                    for row, update in zip(rows, self._held):
                        np.copyto(row, update[name][start : start + PIECE])
                    sort_rows(rows, spare)
                    self.combine(rows, made)
                    if not np.isfinite(made).all():
                        raise NonFiniteAverageError(f"a value of tensor {name!r} is beyond float32")
        self._forget()

    def reset(self) -> None:
        super().reset()
        self._forget()

    def _forget(self) -> None:
        self._free += self._held
        self._held = []


def _like(tensors: Tensors) -> Dict[str, np.ndarray]:
    return {name: aligned_bytes(array.nbytes).view(np.float32) for name, array in tensors.items()}
