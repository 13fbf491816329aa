"""The coordinate-wise median of updates (Yin et al. 2018, "Byzantine-Robust Distributed Learning", Definition 1)."""

from __future__ import annotations

from typing import List

import numpy as np

from cross_silo.aggregation.held_updates import HeldUpdates


class Median(HeldUpdates):
    """Each value is the middle one of the silos' values, or the mean of the two middle ones."""

    def combine(self, rows: List[np.ndarray], out: np.ndarray) -> None:
        middle = len(rows) // 2
        if len(rows) % 2:
            np.copyto(out, rows[middle])
        else:
            half = np.float32(0.5)  # before the sum, which could be beyond float32
            rows[middle] *= half
            np.multiply(rows[middle - 1], half, out=out)
            out += rows[middle]
