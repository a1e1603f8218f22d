"""Encodes pixels as a PNG file; reads and writes no files."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_png(pixels: NDArray[np.uint8], *, compress_level: int = 6) -> bytes:
    """The PNG file of an image.

    Args:
        pixels: uint8 [H, W] or [H, W, 1], which is grey, or [H, W, 3], which is RGB.
        compress_level: zlib's, from 0 (none, fast) to 9.

    Returns:
        The file's bytes.
    """
    buffer = BytesIO()
    grey = pixels.ndim == 3 and pixels.shape[2] == 1
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()
