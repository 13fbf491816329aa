"""bfloat16, which numpy has not: the upper half of a float32."""

from __future__ import annotations

import numpy as np


def to_float32(bits: np.ndarray) -> np.ndarray:
    """Return float32 numbers, exactly, from the bits (uint16) of bfloat16 ones."""
    return (bits.astype("<u4") << 16).view("<f4")
