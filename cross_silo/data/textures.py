"""Random textures for synthetic images: what fills objects, and backgrounds for training and validation."""

from __future__ import annotations

import math
from typing import Callable, Dict, Sequence

import numpy as np
from PIL import Image

Pattern = Callable[[np.random.Generator, int, int], np.ndarray]
"""From a generator, height and width to float (height, width), -1 to 1."""


def random_fill(
    rng: np.random.Generator, kinds: Sequence[Pattern], height: int, width: int, color: np.ndarray, spread: float
) -> np.ndarray:
    """Return float32 RGB (height, width, 3), 0 to 255: one of ``kinds`` about ``color``.

    ``spread`` is how far a channel may lie from ``color``.
    """
    pattern = kinds[int(rng.integers(len(kinds)))](rng, height, width)
    change = rng.uniform(-spread, spread, 3)
    return np.clip(color + pattern[:, :, None] * change, 0, 255).astype(np.float32)


def _along(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Distance of each pixel along a random direction, in pixels."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.ogrid[:height, :width]
    return rows * math.sin(angle) + columns * math.cos(angle)


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One colour."""
    return np.full((height, width), rng.uniform(-1, 1))


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """From one side to the other."""
    along = _along(rng, height, width)
    return (along - along.min()) / max(float(np.ptp(along)), 1.0) * 2 - 1


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Hard-edged parallel bands."""
    return np.sign(np.sin(_along(rng, height, width) * (2 * math.pi / rng.uniform(5, 24))))


def speckle(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Independent pixels."""
    return rng.integers(-128, 128, (height, width), dtype=np.int8) / 128


def clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coarse noise, smoothly enlarged."""
    cells = int(rng.integers(3, 9))
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.BICUBIC))


def checks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A chessboard of fields smaller than any object, so that no field passes for a square one."""
    period = rng.uniform(5, 12)
    rows, columns = np.ogrid[:height, :width]
    return (((rows // period) + (columns // period)) % 2) * 2 - 1


def arcs(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Soft waves about a point outside the image, so that no ring closes into a round object."""
    rows, columns = np.ogrid[:height, :width]
    angle, reach = rng.uniform(0, 2 * math.pi), math.hypot(height, width)
    distance = np.hypot(rows - height / 2 - reach * math.sin(angle), columns - width / 2 - reach * math.cos(angle))
    return np.sin(distance * (2 * math.pi / rng.uniform(20, 80)))


def bands(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Parallel bands of random breadth and brightness."""
    along = gradient(rng, height, width)
    edges = np.sort(rng.uniform(-1, 1, int(rng.integers(3, 12))))
    return rng.uniform(-1, 1, len(edges) + 1)[np.searchsorted(edges, along)]


def ripples(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two soft waves across each other."""
    waves = [np.sin(_along(rng, height, width) * (2 * math.pi / rng.uniform(12, 60))) for _ in range(2)]
    return (waves[0] + waves[1]) / 2


def hatching(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Thin lines across each other."""
    lines = [np.abs(np.sin(_along(rng, height, width) * (math.pi / rng.uniform(6, 20)))) < 0.25 for _ in range(2)]
    return (lines[0] | lines[1]) * 2.0 - 1


def marble(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Waves that clouds bend."""
    waves = _along(rng, height, width) * (2 * math.pi / rng.uniform(15, 60))
    return np.sin(waves + rng.uniform(1, 4) * clouds(rng, height, width))


def blotches(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Clouds of two brightnesses, with soft borders."""
    return np.tanh(4 * clouds(rng, height, width))


TRAINING, VALIDATION, PUBLIC = "training", "validation", "public"
LOOKS = (TRAINING, VALIDATION, PUBLIC)
"""Sets of images that look different: public images stand for those that anybody may have, of the same objects."""
_OWN_FILLS: Sequence[Pattern] = (plain, gradient, stripes, speckle, clouds, checks)
FILLS: Dict[str, Sequence[Pattern]] = {
    TRAINING: _OWN_FILLS,
    VALIDATION: _OWN_FILLS,
    PUBLIC: (hatching, marble, blotches),
}
BACKGROUNDS: Dict[str, Sequence[Pattern]] = {
    TRAINING: (plain, gradient, stripes, speckle, clouds),
    VALIDATION: (checks, arcs, bands, ripples),
    PUBLIC: (hatching, marble, blotches),
}
