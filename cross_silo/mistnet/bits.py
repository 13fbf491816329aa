"""From activations to the bits that are sent, and from those to what the server trains with."""

from __future__ import annotations

import numpy as np


def binarise(activations: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return bool (..., C, H, W): which of ``activations``, of that shape, are above their channel's threshold.

    Args:
        thresholds: float32 (C,).
    """
    return activations > thresholds[:, None, None]


def randomise(bits: np.ndarray, words: np.ndarray, flip_words: int) -> np.ndarray:
    """Return ``bits`` turned over where their word is below ``flip_words``.

    Args:
        bits: bool (r,).
        words: uint32 (r,), uniform and independent.
        flip_words: 0 to 2^31.
    """
    return bits ^ (words < flip_words)


def pack(bits: np.ndarray) -> bytes:
    """Return bool (r,) as ceil(r / 8) bytes, the first bit the highest of the first byte; the last is filled with 0."""
    return np.packbits(bits).tobytes()


def unpack(packed: np.ndarray, count: int) -> np.ndarray:
    """Return the first ``count`` bits, uint8 (..., count) of 0 and 1, of uint8 (..., ceil(count / 8))."""
    return np.unpackbits(packed, axis=-1, count=count)


def debias(bits: np.ndarray, p: float, q: float) -> np.ndarray:
    """Return float32 (b - q) / (p - q): its mean over the noise is the bit before the noise."""
    values = np.float32([-q / (p - q), (1 - q) / (p - q)])
    return values[bits.astype(np.uint8, copy=False)]
