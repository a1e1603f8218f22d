"""Small pictures of the gallery, which travel in the archive for a page that shows neighbours; opens no files.

They are the tiles of one WebP image, in rows, in the order of the gallery: the neighbour with `index` i in an answer is
in column i mod `columns` and row i // `columns`, of tiles of `side` pixels.
"""

import io
import math
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.pointer import THUMBNAILS
from steps.common.images.stored import StoredImages

IMAGE, LAYOUT = THUMBNAILS
_SIDES = (64, 48, 28, 20, 14)  # pixels, the largest that fits; a digit of 14 can still be read
_LARGEST = 16_383  # pixels, the largest side of a WebP image
_QUALITY = 60
# The size of a large sheet is estimated from so many runs of so many neighbouring images, at even distances.
_RUNS, _RUN = 16, 32
_DOUBT = 1.25  # how far above the limit an estimate may be for the sheet itself to be drawn


class Thumbnails(NamedTuple):
    """The bytes of the WebP image, the side of a tile in pixels, and the numbers of columns and of tiles."""

    image: bytes
    side: int
    columns: int
    images: int

    def layout(self) -> dict[str, int]:
        """What the page needs to find a tile: the content of `thumbnails.json`."""
        return {"side": self.side, "columns": self.columns, "count": self.images}


def draw(gallery: NDArray[np.uint8] | StoredImages, limit: int) -> Thumbnails | None:
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
        if 0 < columns * side <= _LARGEST and _estimated(gallery, side) <= _DOUBT * limit:
            image = _encoded(gallery, count, side, columns)
            if len(image) <= limit:
                return Thumbnails(image, side, columns, count)
    return None


def _estimated(gallery: NDArray[np.uint8] | StoredImages, side: int) -> float:
    """About how many bytes the sheet has, without the time that a sheet too large takes; 0 if it is small."""
    if len(gallery) <= 2 * _RUNS * _RUN:
        return 0.0
    starts = np.linspace(0, len(gallery) - _RUN, _RUNS, dtype=np.int64)
    some = (gallery[row] for start in starts.tolist() for row in range(start, start + _RUN))
    return len(_encoded(some, _RUNS * _RUN, side, _RUN)) * len(gallery) / (_RUNS * _RUN)


def _encoded(images: Iterable[NDArray[np.uint8]], count: int, side: int, columns: int) -> bytes:
    rows, tiles = -(-count // columns), iter(images)
    first = next(tiles)
    sheet = np.zeros((rows * side, columns * side, first.shape[2]), np.uint8)
    for number, pixels in enumerate(chain([first], tiles)):
        down, right = (place * side for place in divmod(number, columns))
        sheet[down : down + side, right : right + side] = _scaled(pixels, side)
    file = io.BytesIO()
    Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(file, "WEBP", quality=_QUALITY)
    return file.getvalue()


def _scaled(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(pixels) == side:
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)).reshape(side, side, -1)
