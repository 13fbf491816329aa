"""Encoded images: size from the header, completeness, pixels. JPEG (ITU T.81) and PNG (RFC 2083)."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Callable, Iterator, Tuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Frame headers SOF0-SOF15 without DHT (c4), JPG (c8) and DAC (cc), which share their range.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN = 0xDA
JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD8)) | {0x01}  # RST0-7 and TEM: no length follows


class BadImageError(ValueError):
    """An image file that cannot be used; ``reason`` is one of "header", "end" and "pixels"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_image(data: bytes) -> Tuple[int, int]:
    """Return (height, width) in pixels from the header, after a look at the end marker.

    Pixels are not decoded, and a camera's orientation tag is not applied.

    Raises:
        BadImageError: neither JPEG nor PNG, or the header or the end marker is missing.
    """
    if data[:2] == JPEG_START:
        return _check_jpeg(data)
    if data[:8] == PNG_SIGNATURE:
        return _check_png(data)
    raise BadImageError("header", "neither JPEG nor PNG")


def _check_jpeg(data: bytes) -> Tuple[int, int]:
    size = None
    position = 2
    try:
        while True:
            if data[position] != 0xFF:
                raise BadImageError("header", f"no JPEG marker at byte {position}")
            marker = data[position + 1]
            if marker == 0xFF:  # fill byte
                position += 1
                continue
            position += 2
            if marker in JPEG_BARE_MARKERS:
                continue
            (length,) = struct.unpack_from(">H", data, position)
            if marker in JPEG_FRAMES:
                size = struct.unpack_from(">HH", data, position + 3)
            elif marker == JPEG_SCAN:
                break
            position += length
    except (IndexError, struct.error):
        raise BadImageError("header", "the file ends inside the JPEG header") from None
    if size is None or 0 in size:
        raise BadImageError("header", "no size in the JPEG header")
    # Entropy-coded data never holds this pair, and before the scan it may belong to a thumbnail.
    if data.rfind(JPEG_END, position) < 0:
        raise BadImageError("end", "no end marker: the JPEG file is cut short")
    return size


def _check_png(data: bytes) -> Tuple[int, int]:
    if len(data) < 24 or data[12:16] != b"IHDR":
        raise BadImageError("header", "the file ends inside the PNG header")
    width, height = struct.unpack_from(">II", data, 16)
    if not width or not height:
        raise BadImageError("header", "no size in the PNG header")
    if data.rfind(b"IEND", 24) < 0:
        raise BadImageError("end", "no end chunk: the PNG file is cut short")
    return height, width


def decode_image(data: bytes) -> np.ndarray:
    """Return the pixels as uint8 RGB (height, width, 3), of any colour mode of JPEG or PNG.

    Raises:
        BadImageError: the pixels cannot be decoded.
    """
    with _opened(data) as image:
        return np.asarray(image.convert("RGB"))


def decode_resized(
    data: bytes, resized: Callable[[int, int], Tuple[int, int]]
) -> Tuple[np.ndarray, Tuple[float, float]]:
    """Return the pixels, uint8 RGB, scaled to the size that ``resized`` gives for the image's, and the scale (y, x).

    Where the result has half the image's sides or less, JPEG is decoded at 1/2, 1/4 or 1/8: several times faster.

    Args:
        resized: from height and width in pixels to height and width.

    Raises:
        BadImageError: the pixels cannot be decoded.
    """
    with _opened(data) as image:
        width, height = image.size
        new_height, new_width = resized(height, width)
        if (new_height, new_width) == (height, width):
            return np.asarray(image.convert("RGB")), (1.0, 1.0)
        # A side that the reduction does not divide leaves a last column of which only a part is image.
        reduced = image.draft(None, (new_width, new_height)) if isinstance(image, JpegImageFile) else None
        extent = reduced[1] if reduced else (0, 0, width, height)
        fitted = image.convert("RGB").resize((new_width, new_height), Image.BILINEAR, extent, reducing_gap=2.0)
        return np.asarray(fitted), (new_height / height, new_width / width)


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImageError("pixels", f"the pixels cannot be decoded ({error})") from None
