"""Decodes the images of a split, and writes them: what decides the pixels of a dataset."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, emit
from steps.common.errors import StepError
from steps.common.images.dataset import Rows, png_original, write_images, write_labels
from steps.common.images.decode import BadImage, decode
from steps.common.images.png import encode_png
from steps.preprocess.sources.source import Part, Parts

_PIECE = 1024  # images decoded, then written, at a time


def build(
    split: str,
    rows: Sequence[tuple[str, int]],
    parts: Parts,
    known: Rows,
    folder: Path,
    *,
    image_size: int,
    channels: int,
    max_pixels: int,
) -> dict[str, Any]:
    """Write the images of a split in this order.

    Args:
        split: Its name, for progress.
        rows: The part and the row there of each image.
        parts: The parts of the source.
        known: Name, key, group and original of each image; an empty original is filled where it is needed.
        folder: Where the files go.
        image_size: Pixels a side.
        channels: 1 for grey, 3 for colour.
        max_pixels: Most pixels of an image file.

    Returns:
        The number of images.

    Raises:
        StepError: if an image that could be read a moment ago cannot be any more.
    """

    def decoded(at: tuple[str, int]) -> NDArray[np.uint8]:
        return _decode(parts[at[0]], at[1], image_size, channels, max_pixels)

    def pieces() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(rows), _PIECE):
                piece = rows[start : start + _PIECE]
                images = list(
                    pool.map(lambda at: _decode(parts[at[0]], at[1], image_size, channels, max_pixels), piece)
                )
                emit(Progress(split, start + len(piece), len(rows), "images", "preprocess"))
                yield np.stack(images)

    write_images(folder / "images.npy", pieces(), (image_size, image_size, channels))
    originals = [
        known.originals[number] or _kept(parts[part], row, image_size, channels)
        for number, (part, row) in enumerate(rows)
    ]
    labels = [parts[part].labels[row] for part, row in rows]
    write_labels(folder, labels, Rows(known.names, known.keys, known.groups, originals))
    return {"images": len(rows)}


def _decode(part: Part, row: int, size: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    try:
        image = part.get(row)
        if not isinstance(image, bytes):
            if image.shape == (size, size) and channels == 1:
                return image[:, :, None]
            image = encode_png(image, compress_level=0)
        return decode(image, size=size, channels=channels, max_pixels=max_pixels)
    except (OSError, BadImage) as error:
        raise StepError(f"{part.names[row]} was changed or removed during the run ({error}): run again") from error


def _kept(part: Part, row: int, size: int, channels: int) -> str:
    """An image without a file of its own, as its source gave it; empty if the split has just that."""
    image = part.get(row)
    if isinstance(image, bytes):
        return png_original(image)
    return "" if image.shape == (size, size) and channels == 1 else png_original(encode_png(image))
