"""Image headers, end markers and decoding, against Pillow's own files."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cross_silo.data.image_file import BadImageError, check_image, decode_image, decode_resized


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("divisor", [1.0, 1.3, 2.0, 2.3, 4.0, 7.9, 8.0, 11.0])
@pytest.mark.parametrize("size", [(201, 160), (160, 203), (192, 176)])
def test_pixels_are_where_the_scale_says(kind, divisor, size):
    """Brightness rises, or falls, by 0.613 a pixel along x and y, so that it tells where a pixel comes from."""
    height, width = size
    target = (round(height / divisor), round(width / divisor))
    noise = np.random.default_rng(0).uniform(-8, 8, size)  # else a smooth image's rounding is a shift, too
    errors = []
    for slope, start in ((0.613, 10), (-0.613, 245)):
        y, x = np.mgrid[:height, :width] + 0.5
        buffer = io.BytesIO()
        Image.fromarray(np.rint(slope * (x + y) + start + noise).astype(np.uint8)).save(buffer, kind, quality=98)
        pixels, scale = decode_resized(buffer.getvalue(), lambda *found: target if found == size else None)
        assert pixels.shape == (*target, 3)
        assert (scale[0] * height, scale[1] * width) == pytest.approx(target)
        y, x = np.mgrid[: target[0], : target[1]] + 0.5
        expected = slope * (x / scale[1] + y / scale[0]) + start
        errors.append((pixels[..., 0] - expected)[1:-1, 1:-1])  # filters end at the border
    shift = (errors[0].mean() - errors[1].mean()) / 2 / 0.613 / divisor  # in x and y together; noise cancels out
    assert abs(shift) < 0.1


@pytest.mark.parametrize("data", [encode("L"), encode("CMYK"), encode("P", kind="PNG"), encode(progressive=True)])
def test_any_colour_mode_is_resized(data):
    pixels, scale = decode_resized(data, lambda height, width: (8, 15))
    assert (pixels.shape, pixels.dtype) == ((8, 15, 3), np.uint8)
    assert scale == pytest.approx((8 / 17, 15 / 31))
    full = decode_image(data).astype(float)
    np.testing.assert_allclose(pixels.mean((0, 1)), full[:16, :30].mean((0, 1)), atol=12)


def test_damaged_pixels_are_found_when_resizing():
    data = encode(size=(64, 64))
    with pytest.raises(BadImageError, match="cannot be decoded"):
        decode_resized(data[: len(data) // 2], lambda height, width: (16, 16))
