"""Decoding: every kind of picture to the right pixels, every kind of bad file to its own rule."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.decode import BadImage, decode

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (28, 28, 3), dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(data: bytes, size: int = 28, max_pixels: int = 10_000) -> NDArray[np.uint8]:
    decoded = decode(data, size=size, channels=1, max_pixels=max_pixels)
    assert decoded.shape == (size, size, 1)
    assert decoded.dtype == np.uint8
    return decoded[..., 0]


def rgb(data: bytes, size: int = 28) -> NDArray[np.uint8]:
    decoded = decode(data, size=size, channels=3, max_pixels=10_000)
    assert decoded.shape == (size, size, 3)
    assert decoded.dtype == np.uint8
    return decoded


def png_header(width: int, height: int) -> bytes:
    """A PNG of this size with the start of its pixels, and no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 99) + b"IDAT"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_an_image_of_the_right_size_comes_back_exactly(kind: str) -> None:
    assert (grey(encode(Image.fromarray(PIXELS), kind)) == PIXELS).all()


def test_a_colour_image_of_the_right_size_comes_back_exactly() -> None:
    assert (rgb(encode(Image.fromarray(COLOURS))) == COLOURS).all()
    assert (rgb(encode(Image.fromarray(COLOURS), "WEBP", lossless=True)) == COLOURS).all()


def test_grey_and_colour_become_each_other() -> None:
    assert (rgb(encode(Image.fromarray(PIXELS))) == PIXELS[..., None]).all()
    expected = np.array(Image.fromarray(COLOURS).convert("L"))
    assert (grey(encode(Image.fromarray(COLOURS))) == expected).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    wide = Image.fromarray(PIXELS.astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        assert (grey(encode(wide, kind)) == PIXELS).all()
        assert (rgb(encode(wide, kind)) == PIXELS[..., None]).all()


def test_a_palette_gives_its_colours() -> None:
    palette = Image.fromarray(COLOURS // 64 * 64).quantize(64, dither=Image.Dither.NONE)
    assert (rgb(encode(palette)) == np.array(palette.convert("RGB"))).all()


def test_transparent_pixels_are_white_and_opaque_ones_as_they_are() -> None:
    alpha = np.full((28, 28), 255, np.uint8)
    alpha[:5] = 0
    decoded = rgb(encode(Image.fromarray(np.dstack([COLOURS, alpha]))))
    assert (decoded[:5] == 255).all()
    assert (decoded[5:] == COLOURS[5:]).all()
    decoded = grey(encode(Image.fromarray(np.dstack([PIXELS, alpha]), "LA")))
    assert (decoded[:5] == 255).all()
    assert (decoded[5:] == PIXELS[5:]).all()


def test_cmyk_becomes_the_colours_it_prints() -> None:
    red = Image.new("CMYK", (28, 28), (0, 255, 255, 0))
    decoded = rgb(encode(red, "JPEG", quality=100))
    assert decoded[..., 0].min() > 250
    assert decoded[..., 1:].max() < 5


def test_exif_turns_the_image_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = grey(encode(Image.fromarray(PIXELS), exif=exif))
    assert (decoded == np.rot90(PIXELS, -1)).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_is_no_reason_to_refuse() -> None:
    jpeg = encode(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert grey(jpeg).shape == (28, 28)


def test_an_animation_gives_its_first_frame() -> None:
    first, second = Image.new("L", (28, 28), 10), Image.new("L", (28, 28), 200)
    gif = encode(first, "GIF", save_all=True, append_images=[second])
    assert (grey(gif) == 10).all()


def test_other_sizes_are_resampled_smoothly() -> None:
    ramp = np.repeat(np.linspace(0, 255, 280).astype(np.uint8)[None], 140, axis=0)
    decoded = grey(encode(Image.fromarray(ramp)), max_pixels=40_000).astype(int)
    assert abs(decoded - ramp[:28, 5::10]).max() < 5  # each pixel the mean of the ten it stands for


@pytest.mark.parametrize("side", [128, 1024])
def test_a_large_jpeg_looks_the_same_when_decoded_at_a_fraction(side: int) -> None:
    y, x = np.mgrid[0:side, 0:side] * (16 / side)
    photo = Image.fromarray((128 + 60 * np.sin(x) + 60 * np.cos(y)).astype(np.uint8))
    jpeg = grey(encode(photo, "JPEG", quality=95), max_pixels=2**21).astype(int)
    assert abs(jpeg - grey(encode(photo), max_pixels=2**21)).max() <= 3


PNG = encode(Image.fromarray(PIXELS))
JPEG = encode(Image.fromarray(np.kron(PIXELS, np.ones((3, 3), np.uint8))), "JPEG")


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "empty"),
        (b"hello, I am no image", "not-an-image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n", "not-an-image"),
        (encode(Image.new("F", (28, 28)), "TIFF"), "not-an-image"),
        (PNG[:10], "truncated"),
        (PNG[:400], "truncated"),
        (PNG[:-40], "truncated"),
        (JPEG[:100], "truncated"),
        (JPEG[:-1000], "truncated"),
        (PNG[:60] + bytes(40) + PNG[100:], "truncated"),
        (encode(Image.fromarray(PIXELS), "TIFF")[:300], "truncated"),
        (png_header(101, 100), "too-many-pixels"),
        (png_header(2**31 - 1, 2**31 - 1), "too-many-pixels"),
        (encode(Image.new("L", (120, 120)), "GIF"), "too-many-pixels"),
    ],
)
def test_a_bad_file_breaks_its_own_rule(data: bytes, rule: str) -> None:
    with pytest.raises(BadImage, match=f"^{rule}: .+[;,].+") as caught:
        grey(data)
    assert caught.value.rule == rule


def test_too_many_pixels_are_refused_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(BadImage, match="101 x 100 pixels are more than the 10000 allowed"):
        grey(encode(Image.new("L", (101, 100))))


def test_the_limit_itself_is_allowed_and_pillow_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grey(encode(Image.new("L", (100, 100)))).shape == (28, 28)
        large = Image.new("1", (9_500, 9_500))  # past the limit of Pillow itself
        assert grey(encode(large), max_pixels=100_000_000).shape == (28, 28)


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_any_bytes_like_value_is_read(wrap: Callable[[bytes], Any]) -> None:
    assert (grey(wrap(PNG)) == PIXELS).all()
