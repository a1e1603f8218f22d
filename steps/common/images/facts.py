"""What is computed once of each decoded image, so that its pixels are not read for it; reads and writes no files."""

import hashlib
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16
# `digest` and `checksum` are of the pixels; `sums` and `squares`, over the pixels of a channel, are exact.
FACTS = np.dtype(
    [
        ("key", f"V{KEY_BYTES}"),
        ("digest", f"V{KEY_BYTES}"),
        ("sums", "<u8", 3),
        ("squares", "<u8", 3),
        ("low", "u1"),
        ("high", "u1"),
        ("spare", "V2"),
        ("checksum", "<u4"),
    ]
)
_EXACT = np.dtype(np.uint64)


def packed(keys: list[str]) -> NDArray[np.void]:
    """Content keys of 32 hexadecimal digits as V16 [N]."""
    return np.frombuffer(bytes.fromhex("".join(keys)), f"V{KEY_BYTES}")


def facts(keys: list[str], images: NDArray[np.uint8]) -> NDArray[Any]:
    """The facts of images.

    Args:
        keys: The content key of each, 32 hexadecimal digits.
        images: uint8 [N, H, W, C].

    Returns:
        FACTS [N].
    """
    count, channels = len(images), images.shape[-1]
    found = np.zeros(count, FACTS)
    found["key"] = packed(keys)
    values = images.reshape(count, int(np.prod(images.shape[1:3])), channels)
    for row, image in enumerate(values):
        found["digest"][row] = np.void(hashlib.sha256(image.data).digest()[:KEY_BYTES])
        found["checksum"][row] = zlib.crc32(image.data)
        deep = image.astype(np.uint32)
        found["sums"][row, :channels] = deep.sum(0, dtype=_EXACT)
        found["squares"][row, :channels] = (deep * deep).sum(0, dtype=_EXACT)
    found["low"], found["high"] = values.min((1, 2)), values.max((1, 2))
    return found


def mean_and_deviation(of: NDArray[Any], pixels: int, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over images, the same in whatever order they are.

    Args:
        of: FACTS [N].
        pixels: Pixels of an image, the same for all.
        channels: Channels of an image.

    Returns:
        Two float64 [channels].
    """
    count = len(of) * pixels
    sums = [int(of["sums"][:, channel].sum()) for channel in range(channels)]
    squares = [int(of["squares"][:, channel].sum()) for channel in range(channels)]
    variances = [(count * square - total * total) / count**2 for total, square in zip(sums, squares, strict=True)]
    return np.array(sums) / count, np.sqrt(variances)
