"""SSIM against the formula in plain loops, and where its value is known."""

import numpy as np
import pytest

from cross_silo.evaluation.ssim import structural_similarity


def by_loops(a, b):
    """SSIM of two planes (H, W), window by window."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            c = (weights * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + 1e-4) * (2 * c + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return np.mean(found)


def test_is_the_papers_formula():
    rng = np.random.default_rng(0)
    a = rng.random((2, 16, 20, 3))
    b = np.clip(a + rng.normal(0, 0.2, a.shape), 0, 1)
    expected = [np.mean([by_loops(a[n, :, :, c], b[n, :, :, c]) for c in range(3)]) for n in range(2)]
    np.testing.assert_allclose(structural_similarity(a, b), expected)


def test_equal_images():
    a = np.random.default_rng(0).random((1, 16, 16, 3))
    np.testing.assert_allclose(structural_similarity(a, a), 1)


def test_constant_images_differ_in_luminance_alone():
    a, b = np.full((1, 12, 12, 1), 0.2), np.full((1, 12, 12, 1), 0.6)
    assert structural_similarity(a, b)[0] == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4))


def test_noise_against_noise_is_near_0():
    rng = np.random.default_rng(0)
    assert abs(structural_similarity(rng.random((4, 64, 64, 3)), rng.random((4, 64, 64, 3)))).max() < 0.05
