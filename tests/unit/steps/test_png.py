"""PNG files are of the pixels given, grey or RGB, however they are compressed."""

import numpy as np
import pytest

from steps.common.images.decode import decode
from steps.common.images.png import encode_png


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1), (9, 9, 3)])
def test_pixels_come_back_as_they_were(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    files = [encode_png(pixels, compress_level=level) for level in (0, 9)]
    for file in files:
        channels = shape[2] if len(shape) == 3 else 1
        decoded = decode(file, size=9, channels=channels, max_pixels=81)
        assert (decoded == pixels.reshape(9, 9, channels)).all()
    assert files[0] != files[1]
