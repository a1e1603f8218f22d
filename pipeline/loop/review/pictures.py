"""Pictures that a browser can show, of images in any format that the server takes; reads and writes no files."""

import io

from PIL import Image

from pipeline.loop.placing import plain
from steps.common.images.decode import read_header

LARGE, SMALL = 640, 128  # pixels of the longer side at most


def picture(data: bytes, side: int, max_pixels: int) -> bytes:
    """Decode an image as training does, and encode it as PNG; BadImage if that cannot be.

    Args:
        data: The bytes of an image file; they may be hostile.
        side: Pixels of the longer side at most.
        max_pixels: A larger image is not decoded.

    Returns:
        The bytes of a PNG of 8 bits, without transparency, turned upright.
    """
    return encoded(plain(read_header(data, max_pixels)), side)


def encoded(image: Image.Image, side: int) -> bytes:
    """The bytes of a PNG of an image, whose longer side is made smaller if it has more pixels than `side`."""
    if max(image.size) > side:
        image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
