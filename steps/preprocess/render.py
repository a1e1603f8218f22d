"""What is kept of an image of the source: its content key, its thumbnail, its pixels; reads and writes no files.

An image is decoded once for all three. Only a JPEG that is decoded for its pixels at a fraction of its size, or as grey
though it is in colour, is decoded a second time, at that fraction of the time: it is served that way, too.
"""

from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.content_key import key_of_pixels
from steps.common.images.decode import decode, pixels, read_header, scaled, upright
from steps.common.images.png import encode_png

SIDE = 14  # pixels of a thumbnail's side
_MODES = {1: "L", 3: "RGB"}
_SMALL = 4 * SIDE
_BITS = 22  # of the fractions that Pillow computes with
_DRAFTED = ("JPEG", "MPO")


class Rendered(NamedTuple):
    """An image's content key, in hexadecimal, its thumbnail uint8 [SIDE, SIDE, C] and its pixels uint8 [H, W, C].

    Key and thumbnail are None where `keys_of_images` and `thumbnails` give them of the pixels, of many images at once.
    """

    key: str | None
    thumbnail: NDArray[np.uint8] | None
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
    is_plain = image.mode in _MODES.values() and not image.has_transparency_data
    whole = upright(image, image.mode if is_plain else "RGB")
    values = np.frombuffer(whole.tobytes(), np.uint8).reshape(whole.height, whole.width, -1)
    wanted = _MODES[channels]
    if image.format in _DRAFTED and _is_drafted(data, size, wanted, max_pixels):
        found = pixels(read_header(data, max_pixels), size=size, channels=channels)
    elif whole.mode == wanted and whole.size == (size, size):
        found = values
    elif is_plain:
        found = scaled(whole if whole.mode == wanted else whole.convert(wanted), size=size, channels=channels)
    else:
        found = scaled(whole if whole.mode == wanted else upright(image, wanted), size=size, channels=channels)
    if found is values and size % SIDE == 0 and size <= _SMALL:
        return Rendered(None, None, found)
    return Rendered(key_of_pixels(values), _thumbnail(whole), found)


def of_array(image: NDArray[np.uint8], *, size: int, channels: int) -> Rendered:
    """What is kept of pixels uint8 [H, W] or [H, W, 3]."""
    if image.shape == (size, size) and channels == 1:
        found = image[:, :, None]
    else:
        found = decode(encode_png(image, compress_level=0), size=size, channels=channels, max_pixels=image.size)
    return Rendered(key_of_pixels(image), _thumbnail(Image.fromarray(image)), found)


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The thumbnails uint8 [N, SIDE, SIDE, C] of images whose side is a multiple of SIDE.

    They are those of Pillow to the last bit, which rounds after each direction; a fifth of the time for small images.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        The mean of the pixels that each of a thumbnail's stands for.
    """
    count, side, _, channels = images.shape
    factor = side // SIDE
    weight, half = np.uint32(round((1 << _BITS) / factor)), np.uint32(1 << (_BITS - 1))
    rows = images.reshape(count, side, SIDE, factor, channels)
    wide = (_total([rows[:, :, :, step] for step in range(factor)]) * weight + half) >> _BITS
    columns = wide.reshape(count, SIDE, factor, SIDE, channels)
    small = (_total([columns[:, :, step] for step in range(factor)]) * weight + half) >> _BITS
    return small.astype(np.uint8)


def _total(arrays: list[NDArray[Any]]) -> NDArray[np.uint32]:
    found = arrays[0].astype(np.uint32)
    for array in arrays[1:]:
        found += array
    return found


def _thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.frombuffer(small.tobytes(), np.uint8).reshape(SIDE, SIDE, -1)  # a grey one has one channel, like three


def _is_drafted(data: bytes, size: int, mode: str, max_pixels: int) -> bool:
    """Whether a JPEG is decoded at a fraction of its size, or without its colours."""
    image = read_header(data, max_pixels)
    before = image.mode, image.size
    with suppress(Exception):  # Pillow raises nearly anything for damaged data; `pixels` says it in words
        image.draft(mode, (2 * size, 2 * size))
    return (image.mode, image.size) != before
