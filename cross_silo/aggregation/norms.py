"""How far an update is from the global model, and how far it may be."""

from __future__ import annotations

import math
import statistics
import threading
from collections import deque
from typing import Deque, Iterable

import numpy as np

from cross_silo.aggregation.averaging import PIECE
from cross_silo.aggregation.update import Tensors

LEAST_NORMS = 3
"""Below, a median says nothing of who is the odd one."""


def squared_norm(update: Tensors, samples: int, model: Tensors, names: Iterable[str]) -> float:
    """Return the sum of squares of ``update / samples - model`` over the tensors ``names``.

    Args:
        update: a silo's weights times its samples.
        model: what the silo trained from.
    """
    scratch = np.empty(PIECE, np.float32)
    squares = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for name in names:
            new, old = update[name], model[name]
            for start in range(0, len(new), PIECE):
                pushed, base = new[start : start + PIECE], old[start : start + PIECE]
                difference = np.divide(pushed, np.float32(samples), out=scratch[: len(pushed)])
                np.subtract(difference, base, out=difference)
                square = float(np.dot(difference, difference))
                if not math.isfinite(square):  # float32's range ends at a norm of 2e19
                    wide = pushed.astype(np.float64) / samples - base
                    square = float(np.dot(wide, wide))
                squares += square
    return squares


class NormLimit:
    """Refuses norms beyond a number, or beyond a multiple of the median of those taken last. Thread-safe."""

    def __init__(self, largest: float, factor: float, kept: int) -> None:
        """Set the limits.

        Args:
            largest: 0: none.
            factor: of the median; 0: none.
            kept: norms that the median is over; at least :data:`LEAST_NORMS` are kept, and needed for it.
        """
        self._largest = largest
        self._factor = factor
        self._taken: Deque[float] = deque(maxlen=max(kept, LEAST_NORMS))
        self._lock = threading.Lock()

    def problem(self, norm: float) -> str:
        """Say why ``norm`` is refused; where it is not, return an empty text and remember it as taken."""
        with self._lock:
            if self._largest and norm > self._largest:
                return f"its norm is {norm:.4g}, expected at most {self._largest:g} (aggregation.max_update_norm)"
            if self._factor and len(self._taken) >= LEAST_NORMS:
                median = statistics.median(self._taken)
                if norm > self._factor * median:
                    return (
                        f"its norm is {norm:.4g}, expected at most {self._factor:g} times the median {median:.4g} "
                        "of the last ones (aggregation.max_update_norm_factor)"
                    )
            self._taken.append(norm)
        return ""
