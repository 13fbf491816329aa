"""Boxes with labels drawn on images: detections alone, or beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Told apart with any common colour blindness (Okabe and Ito 2008); a class is named in its label too."""
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
LEAST_SIDE, MOST_SIDE = 640, 1280
"""Pixels of a drawn image's longer side: smaller ones are enlarged, so that labels fit in."""
MARGIN = 8
CROWDED = 15
"""Boxes above which labels are smaller."""

Place = Tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the drawn image."""


@dataclass(frozen=True)
class Box:
    """One box to draw."""

    bbox: Tuple[float, float, float, float]
    """x, y, width, height in pixels of the image."""
    label: int
    """Class index: decides the colour."""
    text: str
    dashed: bool = False


def draw(image: np.ndarray, boxes: Sequence[Box]) -> Image.Image:
    """Return an image, uint8 RGB (height, width, 3), with its boxes, enlarged or reduced to a legible size."""
    height, width = image.shape[:2]
    scale = min(max(1.0, LEAST_SIDE / max(height, width)), MOST_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = Image.fromarray(image).resize(size, Image.BICUBIC) if scale != 1 else Image.fromarray(image).copy()
    pen = ImageDraw.Draw(canvas)
    thickness = max(3, round(max(size) / 250))
    scaled = [_scaled(box, scale) for box in boxes]
    for box, place in zip(boxes, scaled):
        _outline(pen, place, "#000000", thickness + 2, box.dashed)
        _outline(pen, place, COLOURS[box.label % len(COLOURS)], thickness, box.dashed)
    _write_labels(pen, boxes, scaled, size)
    return canvas


def beside(left: Image.Image, right: Image.Image, titles: Tuple[str, str], caption: str) -> Image.Image:
    """Return two images of one size beside each other, a title above each and a caption below both."""
    font = _font(20)
    line = 20 + 2 * MARGIN
    wide = max(left.width + MARGIN + right.width, round(font.getlength(caption)) + 2 * MARGIN)
    page = Image.new("RGB", (wide, left.height + 2 * line), "white")
    pen = ImageDraw.Draw(page)
    for image, title, x in ((left, titles[0], 0), (right, titles[1], left.width + MARGIN)):
        pen.text((x + MARGIN, MARGIN), title, fill="black", font=font)
        page.paste(image, (x, line))
    pen.text((MARGIN, line + left.height + MARGIN), caption, fill="black", font=font)
    return page


def _scaled(box: Box, scale: float) -> Place:
    x, y, width, height = (value * scale for value in box.bbox)
    return x, y, x + width, y + height


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONT), size)


def _outline(pen: ImageDraw.ImageDraw, place: Place, colour: str, thickness: int, dashed: bool) -> None:
    x1, y1, x2, y2 = place
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        for first, last in _dashes(start, end, 12.0 if dashed else None):
            pen.line((*first, *last), fill=colour, width=thickness)


def _dashes(start: Tuple[float, float], end: Tuple[float, float], length: Optional[float]) -> List[tuple]:
    """Return the pieces of a line: the whole, or every other ``length`` pixels."""
    whole = abs(end[0] - start[0]) + abs(end[1] - start[1])  # it is horizontal or vertical
    if length is None or whole <= length:
        return [(start, end)]
    steps = np.arange(0, whole, 2 * length)
    towards = np.subtract(end, start) / whole
    pieces = [(start + towards * step, start + towards * min(step + length, whole)) for step in steps]
    return [(tuple(first), tuple(last)) for first, last in pieces]


def _write_labels(
    pen: ImageDraw.ImageDraw, boxes: Sequence[Box], places: Sequence[Place], size: Tuple[int, int]
) -> None:
    """Write each label at its box, where it covers the least of the labels before it."""
    font = _font(max(12, round(max(size) / (40 if len(boxes) <= CROWDED else 54))))
    taken: List[Place] = []
    for box, (x1, y1, x2, y2) in zip(boxes, places):
        left, top, right, bottom = font.getbbox(box.text)
        wide, high = right - left + 6, bottom - top + 6
        candidates = [(x1, y1 - high), (x1, y2), (x2 - wide, y1 - high), (x2 - wide, y2), (x1, y1), (x1, y2 - high)]
        inside = [
            (min(max(x, 0), max(size[0] - wide, 0)), min(max(y, 0), max(size[1] - high, 0))) for x, y in candidates
        ]
        spots = [(x, y, x + wide, y + high) for x, y in inside]
        spot = min(spots, key=lambda spot: sum(_shared(spot, other) for other in taken))
        taken.append(spot)
        colour = COLOURS[box.label % len(COLOURS)]
        pen.rectangle(spot, fill=colour, outline="black")
        pen.text((spot[0] + 3 - left, spot[1] + 3 - top), box.text, fill=_ink(colour), font=font)


def _shared(one: Place, other: Place) -> float:
    """Return the area that two rectangles share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def _ink(colour: str) -> str:
    """Return black or white, whichever stands out more against ``colour`` (WCAG 2.1's relative luminance)."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
