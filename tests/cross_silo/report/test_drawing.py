"""Boxes and labels where they belong, legible on any image."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from cross_silo.report import drawing
from cross_silo.report.drawing import COLOURS, Box, beside, draw

GREY = np.full((80, 120, 3), 128, np.uint8)


def coloured(image, colour):
    """Return the extent x1, y1, x2, y2 of the pixels of a colour."""
    ys, xs = np.nonzero((np.asarray(image) == ImageColor.getrgb(colour)).all(axis=2))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_a_small_image_is_enlarged_and_its_box_with_it():
    image = draw(GREY, [Box((30, 40, 60, 20), 0, "cell 0.91")])
    scale = drawing.LEAST_SIDE / 120
    assert image.size == (640, round(80 * scale))
    x1, _, x2, y2 = coloured(image, COLOURS[0])
    np.testing.assert_allclose([x1, x2, y2], np.multiply([30, 90, 60], scale), atol=4)


def test_a_huge_image_is_reduced():
    assert draw(np.zeros((4000, 2000, 3), np.uint8), []).size == (640, 1280)


def test_the_image_itself_is_not_drawn_on():
    pixels = np.full((700, 700, 3), 9, np.uint8)
    draw(pixels, [Box((0, 0, 700, 700), 0, "x")])
    assert (pixels == 9).all()


@pytest.mark.parametrize("bbox", [(0, 0, 120, 80), (110, 70, 10, 10), (0, 0, 0, 0), (-50, -50, 300, 300)])
def test_labels_stay_inside_the_image(monkeypatch, bbox):
    written = []
    monkeypatch.setattr(drawing, "_shared", lambda one, other: written.append(one) or 0.0)
    image = draw(GREY, [Box(bbox, 0, "a long class name 0.99"), Box(bbox, 1, "another 0.50")])
    assert written
    for x1, y1, x2, y2 in written:
        assert min(x1, y1) >= 0 and x2 <= image.width and y2 <= image.height


def test_labels_of_boxes_at_one_place_do_not_cover_each_other(monkeypatch):
    spots = []
    inner = drawing.ImageDraw.ImageDraw.rectangle
    monkeypatch.setattr(
        drawing.ImageDraw.ImageDraw,
        "rectangle",
        lambda self, spot, **more: spots.append(spot) or inner(self, spot, **more),
    )
    draw(GREY, [Box((30, 30, 60, 30), place, f"class {place}") for place in range(4)])
    assert len(spots) == 4
    assert all(drawing._shared(a, b) == 0 for i, a in enumerate(spots) for b in spots[:i])


def test_dashes_cover_half_of_a_line():
    pieces = drawing._dashes((0, 5), (0, 125), 12.0)
    assert pieces[0] == ((0, 5), (0, 17)) and len(pieces) == 5
    assert drawing._dashes((3, 0), (9, 0), 12.0) == [((3, 0), (9, 0))]


def test_every_label_has_contrast():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                  for c in (value / 255 for value in ImageColor.getrgb(colour))]  # fmt: skip
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in COLOURS:
        low, high = sorted((luminance(colour), luminance(drawing._ink(colour))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, colour  # WCAG 2.1, level AA


def test_two_images_beside_each_other():
    red, blue = (Image.new("RGB", (640, 100), colour) for colour in ("red", "blue"))
    page = beside(red, blue, ("truth", "found"), "a caption")
    assert coloured(page, "#ff0000")[0] == 0 and coloured(page, "#0000ff")[2] == page.width
    assert coloured(page, "#000000")[1] < 36  # the titles' ink
