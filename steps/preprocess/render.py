"""What is kept of an image of the source: its content key, its thumbnail, its pixels; reads and writes no files.

An image is decoded once for all three. Only a JPEG that is decoded for its pixels at a fraction of its size, or as grey
though it is in colour, is decoded a second time, at that fraction of the time: it is served that way, too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.content_key import colours, key_of_pixels
from steps.common.images.decode import decode, pixels, read_header, scaled, upright
from steps.common.images.png import encode_png

SIDE = 14  # pixels of a thumbnail's side
_MODES = {1: "L", 3: "RGB"}
_DRAFTED = ("JPEG", "MPO")


class Rendered(NamedTuple):
    """An image's content key, in hexadecimal, its thumbnail uint8 [SIDE, SIDE, 3] and its pixels uint8 [H, W, C]."""

    key: str
    thumbnail: NDArray[np.uint8]
    pixels: NDArray[np.uint8]


def of_file(data: bytes, *, size: int, channels: int, max_pixels: int) -> Rendered:
    """What is kept of an image file; BadImage if the bytes are no usable image.

    Args:
        data: The file's bytes.
        size: Pixels a side.
        channels: 1 for grey, 3 for colour.
        max_pixels: Most pixels of an image.

    Returns:
        The key and thumbnail of the image as it is, upright and transparent pixels on white; the pixels as `decode`
        gives them.
    """
    image = read_header(data, max_pixels)
    whole = upright(image, "RGB")
    key, small = key_of_pixels(np.asarray(whole)), _thumbnail(whole)
    if image.format in _DRAFTED and _is_drafted(data, size, channels, max_pixels):
        return Rendered(key, small, pixels(read_header(data, max_pixels), size=size, channels=channels))
    plain = whole if channels == 3 else upright(image, _MODES[channels])
    return Rendered(key, small, scaled(plain, size=size, channels=channels))


def of_array(image: NDArray[np.uint8], *, size: int, channels: int) -> Rendered:
    """What is kept of pixels uint8 [H, W] or [H, W, 3]."""
    whole = colours(image)
    if image.shape == (size, size) and channels == 1:
        found = image[:, :, None]
    else:
        found = decode(encode_png(image, compress_level=0), size=size, channels=channels, max_pixels=whole.size)
    return Rendered(key_of_pixels(image), _thumbnail(Image.fromarray(whole)), found)


def _thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def _is_drafted(data: bytes, size: int, channels: int, max_pixels: int) -> bool:
    """Whether a JPEG is decoded at a fraction of its size, or without its colours."""
    image = read_header(data, max_pixels)
    before = image.mode, image.size
    image.draft(_MODES[channels], (2 * size, 2 * size))
    return (image.mode, image.size) != before
