"""Synthetic detection images. An object's class is its shape alone: all else is random for every class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw

from cross_silo.data.textures import BACKGROUNDS, FILLS, LOOKS, Pattern, random_fill

Points = List[Tuple[float, float]]

EXTENT = (0.14, 0.42)  # an object's diameter, of the image's shorter side
ASPECT = (0.8, 1.25)
MAX_OBJECTS = 5
MAX_HIDDEN = 0.3  # of an object's area, under all later objects together
MIN_CONTRAST = 60.0  # mean absolute difference of channels, 0-255, between an object and what it covers
TRIES = 12  # to place an object, and to find its colour
OVERSAMPLING = 3  # a mask is drawn this many times larger: smooth edges


def _regular(radii: List[float]) -> Points:
    """Points at even angles, clockwise from the top, at the given distances from the centre."""
    angles = [2 * math.pi * k / len(radii) for k in range(len(radii))]
    return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles)]


_ARM = 0.3  # half the width of the cross's arms
SHAPES: Dict[str, Points] = {
    "circle": _regular([1.0] * 48),
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _regular([1.0] * 3),
    "star": _regular([1.0, 0.4] * 5),
    "cross": [
        (-_ARM, -1),
        (_ARM, -1),
        (_ARM, -_ARM),
        (1, -_ARM),
        (1, _ARM),
        (_ARM, _ARM),
        (_ARM, 1),
        (-_ARM, 1),
        (-_ARM, _ARM),
        (-1, _ARM),
        (-1, -_ARM),
        (-_ARM, -_ARM),
    ],
    "corner": [(-0.8, -0.8), (-0.2, -0.8), (-0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (-0.8, 0.8)],
}
"""Corner points by class, about within the unit circle, in the order of the class ids."""


@dataclass(frozen=True)
class DrawnObject:
    """One object of a drawn image."""

    label: int
    """Index in the list of shapes."""
    box: Tuple[int, int, int, int]
    """x, y, width, height in pixels: the whole shape's extent, hidden parts too."""
    area: int
    """Pixels of the whole shape."""


def draw_image(
    height: int, width: int, num_classes: int, seed: int, index: int, look: str
) -> Tuple[np.ndarray, List[DrawnObject]]:
    """Draw image ``index`` of the set that ``seed`` and ``look`` name.

    Args:
        height, width: pixels.
        num_classes: how many of ``SHAPES`` occur.
        look: one of ``LOOKS``, each of other random numbers; validation has other kinds of background than training,
            public other textures of objects, too.

    Returns:
        uint8 RGB (height, width, 3), and 1 to ``MAX_OBJECTS`` objects.
    """
    rng = np.random.default_rng([seed, LOOKS.index(look), index])
    image = random_fill(rng, BACKGROUNDS[look], height, width, rng.uniform(0, 255, 3), spread=60.0).astype(np.float32)
    owner = np.full((height, width), -1, np.int8)
    objects: List[DrawnObject] = []
    for _ in range(int(rng.integers(1, MAX_OBJECTS + 1))):
        label = int(rng.integers(num_classes))
        placed = _place(rng, list(SHAPES.values())[label], owner, objects)
        if placed is None:
            continue
        mask, left, top = placed
        _paint(rng, image[top : top + mask.shape[0], left : left + mask.shape[1]], mask, FILLS[look])
        solid = mask >= 0.5
        owner[top : top + mask.shape[0], left : left + mask.shape[1]][solid] = len(objects)
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        box = (
            int(left + columns[0]),
            int(top + rows[0]),
            int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )
        objects.append(DrawnObject(label, box, int(solid.sum())))
    strength = int(rng.integers(1, 9))
    image += rng.integers(-strength, strength + 1, image.shape, dtype=np.int8)
    return np.clip(image, 0, 255).astype(np.uint8), objects


def _place(
    rng: np.random.Generator, shape: Points, owner: np.ndarray, objects: List[DrawnObject]
) -> Optional[Tuple[np.ndarray, int, int]]:
    """Return (mask, left, top) of a new object that leaves the others mostly visible; None: no room found."""
    height, width = owner.shape
    for _ in range(TRIES):
        mask = _mask(rng, shape, min(height, width))
        top = int(rng.integers(height - mask.shape[0] + 1))
        left = int(rng.integers(width - mask.shape[1] + 1))
        after = owner.copy()
        after[top : top + mask.shape[0], left : left + mask.shape[1]][mask >= 0.5] = -1
        if all((after == k).sum() >= (1 - MAX_HIDDEN) * old.area for k, old in enumerate(objects)):
            return mask, left, top
    return None


def _mask(rng: np.random.Generator, shape: Points, side: int) -> np.ndarray:
    """Draw the shape in a random size, aspect and rotation: its cover of each pixel, float32 (h, w), 0 to 1."""
    radius = side * rng.uniform(*EXTENT) / 2
    aspect = math.sqrt(math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1]))))
    angle = rng.uniform(0, 2 * math.pi)
    points = np.array(shape) * (radius * aspect, radius / aspect)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = points @ turn
    points -= points.min(0)
    box_width, box_height = (max(3, min(side, math.ceil(extent))) for extent in points.max(0))
    canvas = Image.new("L", (box_width * OVERSAMPLING, box_height * OVERSAMPLING))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in (points * OVERSAMPLING).tolist()], fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float32) / 255


def _paint(rng: np.random.Generator, region: np.ndarray, mask: np.ndarray, kinds: Sequence[Pattern]) -> None:
    """Fill the masked part of ``region``, float32 (h, w, 3), with a texture of a colour that stands out."""
    covered = region[mask >= 0.5].mean(0)
    color = rng.uniform(0, 255, 3)
    for _ in range(TRIES):
        if np.abs(color - covered).mean() >= MIN_CONTRAST:
            break
        color = rng.uniform(0, 255, 3)
    fill = random_fill(rng, kinds, mask.shape[0], mask.shape[1], color, spread=35.0)
    region += mask[:, :, None] * (fill - region)
