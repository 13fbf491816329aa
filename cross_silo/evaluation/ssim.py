"""Structural similarity of images (Wang et al. 2004, Image Quality Assessment, section III): 1 for equal ones."""

from __future__ import annotations

import numpy as np

WINDOW, SIGMA = 11, 1.5
"""Pixels of the Gaussian window and its standard deviation, as the paper has them."""
K1, K2 = 0.01, 0.03


def structural_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean SSIM of each pair of images, float64 (N,), over windows inside them and over channels.

    Args:
        a, b: (N, H, W, C), values 0 to 1, of at least 11 x 11 pixels.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return similarity.mean((1, 2, 3))


def _blur(x: np.ndarray) -> np.ndarray:
    """Return the Gaussian mean of every window that lies inside: (N, H - 10, W - 10, C)."""
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis)
        x = windows @ weights
    return x
