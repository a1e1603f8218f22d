"""Images of a split that are taken a batch at a time: its originals at another size and colours.

Reads the files that the images came from.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.common.images.content_key import key_of_pixels, pixels_of_file
from steps.common.images.dataset import Split
from steps.common.images.decode import BadImage, decode
from steps.common.images.png import encode_png

# Of a file that was accepted when the split was made, and may be another by now: so that no header fills the memory.
_MAX_PIXELS = 200_000_000


class Originals:
    """A split's images at another size and colours, each decoded from its original.

    Attributes:
        gone: Rows whose original is no more, or is another image by now; known once they were taken. In their place
            stands a black image.
    """

    def __init__(self, split: Split, size: int, channels: int) -> None:
        self.gone: set[int] = set()
        self._split, self._size, self._channels = split, size, channels

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, rows: slice, /) -> Any:
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(self._image, range(len(self))[rows])))

    def _image(self, row: int) -> NDArray[np.uint8]:
        try:
            data = self._original(row)
            return decode(data, size=self._size, channels=self._channels, max_pixels=_MAX_PIXELS)
        except BadImage:
            self.gone.add(row)
            return np.zeros((self._size, self._size, self._channels), np.uint8)

    def _original(self, row: int) -> bytes:
        if not self._split.rows.originals[row]:  # the split's own pixels are the image as its source gave it
            return encode_png(self._split.images[row], compress_level=0)
        data = self._split.original(row) or b""
        if key_of_pixels(pixels_of_file(data, _MAX_PIXELS)) != self._split.rows.keys[row]:
            raise BadImage("not-an-image", "it is another image than it was; restore it.")
        return data
