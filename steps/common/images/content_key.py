"""The content key of an image, which tells the same picture in whatever file; reads and writes no files."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from steps.common.images.decode import read_header, upright


def key_of_pixels(pixels: NDArray[np.uint8]) -> str:
    """The key of pixels uint8 [H, W], [H, W, 1] or [H, W, 3], 32 hexadecimal digits."""
    return keys_of_images((pixels if pixels.ndim == 3 else pixels[:, :, None])[None])[0]


def keys_of_images(images: NDArray[np.uint8]) -> list[str]:
    """The keys of images uint8 [N, H, W, C] of one or three channels, which are all of one size."""
    count, height, width, channels = images.shape
    rows = images.reshape(count, height * width * channels)
    whole = np.ascontiguousarray(rows if channels == 3 else np.repeat(rows, 3, axis=1)).reshape(-1).data
    size, begun, keys = height * width * 3, hashlib.sha256(f"{width} x {height}:".encode()), list[str]()
    for start in range(0, count * size, size):
        found = begun.copy()
        found.update(whole[start : start + size])
        keys.append(found.hexdigest()[:32])
    return keys


def pixels_of_file(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """What the key of an image file is of: uint8 [H, W, 3], upright, transparent pixels on white; or BadImage."""
    return np.asarray(upright(read_header(data, max_pixels), "RGB"))
