"""The weighted mean of updates whose norms are held to a threshold (Sun et al. 2019, "Can You Really Backdoor
Federated Learning?", section 4.2, norm thresholding)."""

from __future__ import annotations

from typing import Callable, Optional

import numpy as np

from cross_silo.aggregation.averaging import PIECE, Place, WeightedSum
from cross_silo.aggregation.participant import Key
from cross_silo.aggregation.update import CheckedUpdate, Tensors


class ClippedSum(WeightedSum):
    """As its base, with each update whose norm is larger than the threshold drawn towards the model it came from.

    A silo's weights w count as g + s (w - g) with s = min(1, threshold / norm), for all tensors alike.
    """

    def __init__(self, place: Place, threshold: float, model: Callable[[], Tensors]) -> None:
        """Args: ``model`` returns the global model g of the round in progress."""
        super().__init__(place)
        self._threshold = threshold
        self._model = model

    def add(self, key: Key, update: CheckedUpdate, last_of: Optional[int]) -> None:
        if update.norm is None:
            raise ValueError("the norm of the update is needed")
        if update.norm <= self._threshold:
            super().add(key, update, last_of)
            return
        self._add_scaled(update, self._threshold / update.norm, self._begins(key))
        if last_of is not None:
            self.divide(last_of)

    def _add_scaled(self, update: CheckedUpdate, scale: float, first: bool) -> None:
        share, rest = np.float32(scale), np.float32(update.samples * (1 - scale))
        scaled, kept = np.empty(PIECE, np.float32), np.empty(PIECE, np.float32)
        model = self._model()
        for name, out in self.place.tensors.items():
            new, old = update.tensors[name], model[name]
            for start in range(0, len(out), PIECE):
                total = out[start : start + PIECE]
                piece = np.multiply(new[start : start + PIECE], share, out=scaled[: len(total)])
                piece += np.multiply(old[start : start + PIECE], rest, out=kept[: len(total)])
                if first:
                    np.copyto(total, piece)
                else:
                    np.add(total, piece, out=total)
