"""Decodes the bytes of an image file into the pixels that the network takes; reads and writes no files.

Imports nothing of this project, only numpy and Pillow: a copy travels in the model archive, so that a served image is
decoded exactly as a training image was.
"""

from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, WebPImagePlugin

Rule = Literal["empty", "not-an-image", "truncated", "too-many-pixels"]

# Pillow's other formats include some that start programs (EPS) or decode more than their header says (ICO).
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
# Pillow imports all of its plugins for a format that it does not know yet; these two it does not import itself.
_PLUGINS = (TiffImagePlugin, WebPImagePlugin)
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0

# The size in the header is held against our own limit below; Pillow's fixed one would warn on the error stream.
Image.MAX_IMAGE_PIXELS = None


class BadImage(ValueError):
    """The bytes are no image that can be used: `rule` is the broken rule, the message adds the value and a remedy."""

    def __init__(self, rule: Rule, found: str) -> None:
        super().__init__(f"{rule}: {found}")
        self.rule = rule


def decode(data: bytes, *, size: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of an image file.

    It is the first frame of an animation, turned upright as its EXIF says, with transparent pixels on white and deeper
    greys scaled to 8 bits. An image that already has the size is not resampled. BadImage if the bytes are no usable
    image.

    Args:
        data: The file's bytes.
        size: The width and height to bring it to, in pixels.
        channels: 1 for grey, 3 for RGB.
        max_pixels: The largest image to take, by its header: a larger one is not decoded.

    Returns:
        uint8 [size, size, channels].
    """
    return pixels(read_header(data, max_pixels), size=size, channels=channels)


def read_header(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and its pixels not.

    Args:
        data: The file's bytes.
        max_pixels: The largest image to take.

    Returns:
        The image, for `pixels`.

    Raises:
        BadImage: The bytes are no image, or one of more pixels, or its pixels are floating-point numbers.
    """
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(
            "too-many-pixels",
            f"{width} x {height} pixels are more than the {max_pixels} allowed; send a smaller image.",
        )
    if image.mode == "F":
        raise BadImage("not-an-image", "pixels are floating-point numbers; save 8 or 16 bits a channel.")
    return image


def pixels(image: Image.Image, *, size: int, channels: int) -> NDArray[np.uint8]:
    """The pixels of an image whose header was read.

    Args:
        image: What `read_header` gave.
        size: The width and height to bring it to, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [size, size, channels].

    Raises:
        BadImage: The pixels cannot be decoded.
    """
    mode = "L" if channels == 1 else "RGB"
    # A JPEG many times larger than needed is decoded at a fraction of its size, at a fraction of the time.
    image.draft(mode, (2 * size, 2 * size))
    return scaled(upright(image, mode), size=size, channels=channels)


def scaled(image: Image.Image, *, size: int, channels: int) -> NDArray[np.uint8]:
    """The pixels uint8 [size, size, channels] of an image of mode L for one channel, RGB for three."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image, dtype=np.uint8).reshape(size, size, channels)


def upright(image: Image.Image, mode: str) -> Image.Image:
    """The image at its own size in 8 bits: turned as its EXIF says, transparent pixels on white.

    Args:
        image: An image whose header was read.
        mode: L for grey, RGB for colour.

    Returns:
        An image of that mode. Grey values deeper than 8 bits are scaled by their own range: that is 0 to 2^b - 1, with
        the least b of 8, 10, 12 and so on that holds the largest value, since cameras write 12 bits into files of 16.

    Raises:
        BadImage: The pixels cannot be read.
    """
    try:
        image.load()
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return _plain(ImageOps.exif_transpose(image) if turned else image, mode, _white_is_zero(image))
    except Exception as error:  # Pillow's decoders raise nearly anything for damaged data
        raise BadImage(
            "truncated",
            f"the file starts as {image.format} but its pixels cannot be read ({error}); send the whole file.",
        ) from error


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("empty", "0 bytes; send an image file.")
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
    except Exception as error:  # as above
        if bytes(data[:4]).startswith(_SIGNATURES):
            raise BadImage(
                "truncated", f"{len(data)} bytes end before the image's header does; send the whole file."
            ) from error
        raise BadImage(
            "not-an-image",
            f"{len(data)} bytes that start with {bytes(data[:8])!r}; send one of {', '.join(FORMATS)}.",
        ) from error


def _plain(image: Image.Image, mode: str, white_is_zero: bool) -> Image.Image:
    """The image in 8 bits, without transparency, as mode L or RGB."""
    if image.mode.startswith("I"):  # which Pillow itself would clip at 255
        grey = _eight_bits(np.asarray(image).astype(np.int64))
        image = Image.fromarray(255 - grey if white_is_zero else grey)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(grey: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Deep grey values, scaled to 0 to 255 by their own range; negative ones become 0."""
    grey = np.clip(grey, 0, None)
    bits = max(8, int(grey.max(initial=0)).bit_length())
    top = (1 << (bits + bits % 2)) - 1
    return ((grey * 255 + top // 2) // top).astype(np.uint8)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF's greys are inverted; Pillow turns those of 8 bits itself."""
    tags = getattr(image, "tag_v2", {})
    return bool(image.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
