"""The coordinate-wise trimmed mean of updates (Yin et al. 2018, "Byzantine-Robust Distributed Learning", Def. 2)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import List

import numpy as np

from cross_silo.aggregation.averaging import Place
from cross_silo.aggregation.held_updates import HeldUpdates


class TrimmedMean(HeldUpdates):
    """Each value is the mean of the silos' values without the smallest and the largest ones."""

    def __init__(self, place: Place, share: float) -> None:
        """Args: ``share`` of the values is left out at each end, rounded up; one or two are always left."""
        super().__init__(place)
        self._share = Fraction(str(share))

    def combine(self, rows: List[np.ndarray], out: np.ndarray) -> None:
        cut = min(math.ceil(self._share * len(rows)), (len(rows) - 1) // 2)
        first, *others = rows[cut : len(rows) - cut]
        np.copyto(out, first)
        for row in others:
            out += row
        out /= np.float32(1 + len(others))
