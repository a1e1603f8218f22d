"""Pictures for a page, small whatever the images are: data addresses of WebP. Reads and writes no files."""

import base64
import binascii
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.dataset import Split

_SIDE = 48  # pixels of an image in a strip at most
_SINGLE = 80  # and of one that stands alone
_DRAWN_LARGE = 32  # a grey picture no higher than this is drawn so large that each pixel is seen
_GAP = 2
_QUALITY = 75


def strip(split: Split, rows: Sequence[int]) -> str:
    """Images beside each other in one picture.

    Args:
        split: Where they are.
        rows: Their rows, at least one.

    Returns:
        The picture's data address.
    """
    images = [_small(_image(split.images[row]), _SIDE) for row in rows]
    width, height = sum(image.width + _GAP for image in images) - _GAP, max(image.height for image in images)
    whole = Image.new(images[0].mode, (width, height), 255 if images[0].mode == "L" else (255, 255, 255))
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + _GAP
    return _address(whole)


def single(png: str) -> str:
    """The data address of a picture that a file of the evaluation has as PNG in base64."""
    try:
        with Image.open(BytesIO(base64.b64decode(png))) as image:
            return _address(_small(image, _SINGLE))
    except (OSError, binascii.Error):
        return f"data:image/png;base64,{png}"


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `count` numbers from 0 on, evenly spaced."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64))


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)


def _small(image: Image.Image, side: int) -> Image.Image:
    small = image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")
    small.thumbnail((side, side))
    return small


def _address(image: Image.Image) -> str:
    buffer = BytesIO()
    exact = image.mode == "L" and image.height <= _DRAWN_LARGE
    image.save(buffer, "WEBP", lossless=exact, quality=_QUALITY, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
