"""Small pictures of the gallery, which travel in the archive for a page that shows neighbours; opens no files.

They are the tiles of one WebP image, in rows, in the order of the gallery: the neighbour with `index` i in an answer is
in column i mod `columns` and row i // `columns`, of tiles of `side` pixels.
"""

import io
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.pointer import THUMBNAILS
from steps.common.images.mapped import MappedImages

IMAGE, LAYOUT = THUMBNAILS
_SIDES = (64, 48, 28, 20, 14)  # pixels, the largest that fits; a digit of 14 can still be read
_LARGEST = 16_383  # pixels, the largest side of a WebP image
_QUALITY = 60


class Thumbnails(NamedTuple):
    """The bytes of the WebP image, the side of a tile in pixels, and the numbers of columns and of tiles."""

    image: bytes
    side: int
    columns: int
    images: int

    def layout(self) -> dict[str, int]:
        """What the page needs to find a tile: the content of `thumbnails.json`."""
        return {"side": self.side, "columns": self.columns, "count": self.images}


def draw(gallery: NDArray[np.uint8] | MappedImages, limit: int) -> Thumbnails | None:
    """Draw the largest pictures that fit.

    Args:
        gallery: images uint8 [N, S, S, C], of one or three channels.
        limit: bytes at most.

    Returns:
        The pictures; None without images, or if the smallest do not fit.
    """
    count, own = len(gallery), gallery.shape[1]
    columns = math.ceil(math.sqrt(count))
    for side in sorted({min(side, own) for side in _SIDES}, reverse=True):
        if 0 < columns * side <= _LARGEST:
            image = _encoded(gallery, side, columns)
            if len(image) <= limit:
                return Thumbnails(image, side, columns, count)
    return None


def _encoded(gallery: NDArray[np.uint8] | MappedImages, side: int, columns: int) -> bytes:
    channels = gallery.shape[3]
    rows = -(-len(gallery) // columns)
    sheet = np.zeros((rows * side, columns * side, channels), np.uint8)
    for number, pixels in enumerate(gallery):
        down, right = (place * side for place in divmod(number, columns))
        sheet[down : down + side, right : right + side] = _scaled(pixels, side)
    file = io.BytesIO()
    Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()


def _scaled(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(pixels) == side:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)).reshape(side, side, -1)
