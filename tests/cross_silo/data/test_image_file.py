"""Image headers, end markers and decoding, against Pillow's own files."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.image_file import BadImageError, check_image, decode_image


def encode(mode="RGB", size=(31, 17), kind="JPEG", **options):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data):
    with pytest.raises(BadImageError) as caught:
        check_image(data)
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [
        encode(),
        encode(progressive=True),
        encode("L"),
        encode("CMYK"),
        encode(comment=b"x" * 3000),
        encode(kind="PNG"),
        encode("P", kind="PNG"),
    ],
)
def test_size_and_pixels_of_complete_files(data):
    assert check_image(data) == (17, 31)
    pixels = decode_image(data)
    assert (pixels.shape, pixels.dtype) == ((17, 31, 3), np.uint8)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_what_follows_the_end_marker_is_allowed():
    assert check_image(encode() + b"\0" * 100) == (17, 31)
    assert check_image(encode(kind="PNG") + b"trailing") == (17, 31)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cut_files_are_found(kind):
    data = encode(kind=kind, size=(64, 64))
    assert reason_of(data[: len(data) * 3 // 4]) == "end"
    assert reason_of(data[:14]) == "header"


def test_end_marker_of_a_thumbnail_does_not_count():
    thumbnail = encode(size=(8, 8))
    app = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = encode(size=(64, 64))
    assert check_image(data[:2] + app + data[2:]) == (64, 64)
    assert reason_of(data[:2] + app + data[2:-40]) == "end"


@pytest.mark.parametrize("data", [b"", b"GIF89a" + b"\0" * 50, b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8abcd" * 9])
def test_other_files_have_no_header(data):
    assert reason_of(data) == "header"


def test_every_cut_is_found_or_harmless():
    """No prefix of a file makes the check fail in another way than BadImageError."""
    data = encode(size=(16, 16))
    for end in range(len(data)):
        assert reason_of(data[:end]) in ("header", "end")


def test_damaged_pixels_are_found_by_decoding_alone():
    data = bytearray(encode(kind="PNG", size=(64, 64)))
    place = data.index(b"IDAT") + 200
    data[place : place + 50] = bytes(50)
    assert check_image(bytes(data)) == (64, 64)
    with pytest.raises(BadImageError) as caught:
        decode_image(bytes(data))
    assert caught.value.reason == "pixels"
