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
_AT_ONCE_BYTES = 1 << 18


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
    flat = np.ascontiguousarray(images).reshape(count, int(np.prod(images.shape[1:])))
    digests = b"".join(hashlib.sha256(image.data).digest()[:KEY_BYTES] for image in flat)
    found["digest"] = np.frombuffer(digests, f"V{KEY_BYTES}")
    found["checksum"] = [zlib.crc32(image.data) for image in flat]
    found["low"], found["high"] = flat.min(1), flat.max(1)
    step = max(1, _AT_ONCE_BYTES // max(1, flat[:1].nbytes))
    for piece in (slice(start, start + step) for start in range(0, count, step)):
        planes = np.ascontiguousarray(flat[piece].reshape(len(flat[piece]), -1, channels).transpose(0, 2, 1))
        deep = planes.astype(np.float32).astype(np.float64)  # whose sums of whole numbers are exact below 2^53
        found["sums"][piece, :channels] = deep.sum(2)
        found["squares"][piece, :channels] = np.einsum("nck,nck->nc", deep, deep)
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
