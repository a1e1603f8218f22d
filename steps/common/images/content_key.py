"""The content key of an image, which tells the same picture in whatever file; reads and writes no files."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from steps.common.images.decode import read_header, upright


def colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W, 3] of those of a grey image [H, W], or of a colour image, which stay as they are."""
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels


def key_of_pixels(pixels: NDArray[np.uint8]) -> str:
    """The key of pixels uint8 [H, W] or [H, W, 3], 32 hexadecimal digits."""
    whole = colours(pixels)
    height, width = whole.shape[:2]
    found = hashlib.sha256(f"{width} x {height}:".encode())
    found.update(np.ascontiguousarray(whole).data)
    return found.hexdigest()[:32]


def pixels_of_file(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """What the key of an image file is of: uint8 [H, W, 3], upright, transparent pixels on white; or BadImage."""
    return np.asarray(upright(read_header(data, max_pixels), "RGB"))
