"""Sorting many short columns at once by a network of minima and maxima of whole rows.

Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M).
"""

from __future__ import annotations

from functools import lru_cache
from typing import List, Tuple

import numpy as np


@lru_cache(maxsize=8)
def comparators(count: int) -> Tuple[Tuple[int, int], ...]:
    """Return the pairs (i, j), i < j, to put in order one after the other so that ``count`` items are sorted."""
    pairs = []
    top = 1 << max((count - 1).bit_length() - 1, 0)
    part = top if count > 1 else 0
    while part:
        merged, offset, distance = top, 0, part
        while True:
            pairs += [(i, i + distance) for i in range(count - distance) if i & part == offset]
            if merged == part:
                break
            distance, merged, offset = merged - part, merged >> 1, part
        part >>= 1
    return tuple(pairs)


def sort_rows(rows: List[np.ndarray], spare: np.ndarray) -> None:
    """Sort the columns of ``rows``, equally long arrays that are overwritten; the first row has the least values.

    Args:
        spare: one more array of the same length; it and those in ``rows`` may change places.
    """
    for low, high in comparators(len(rows)):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
