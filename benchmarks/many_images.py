"""Makes image files for the benchmark of scale: digits that are moved and faded, or classes of soft blots; as PNG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.png import encode_png
from steps.preprocess.sources.sample import SAMPLE

_MOVES = [(down, right) for down in range(-3, 4) for right in range(-3, 4)]
_STRIDE = 7919  # a prime: neighbours in the sample are of one class


def write_digits(folder: Path, first: int, count: int) -> None:
    """Write digits that are all different, to `<folder>/<digit>/`.

    Args:
        folder: The folder of a part, such as `images/train`.
        first: The number of the first; equal numbers are equal images.
        count: How many.
    """
    with np.load(SAMPLE) as sample:
        images, labels = sample["images"], sample["labels"]
    for number in range(first, first + count):
        row, way = number * _STRIDE % len(images), number // len(images)
        fade = 1 - 0.08 * (way // len(_MOVES))
        moved = np.roll(images[row], _MOVES[way % len(_MOVES)], (0, 1))
        path = folder / str(labels[row]) / f"{number:07d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png((moved * fade).astype(np.uint8), compress_level=1))


def write_classes(folder: Path, classes: int, each: int, side: int = 28, colours: int = 1, prefix: str = "") -> None:
    """Write images of soft blots, which have a pattern for each class, to `<folder>/<prefix><class>/`.

    Args:
        folder: The folder of a part.
        classes: How many.
        each: Images of a class.
        side: Pixels a side.
        colours: 1 for grey, 3 for colour.
        prefix: Before the number of a class.
    """
    rng = np.random.default_rng(len(prefix))
    for label in range(classes):
        own = rng.integers(0, 256, (7, 7, colours), np.uint8)
        (folder / f"{prefix}{label:05d}").mkdir(parents=True, exist_ok=True)
        for number in range(each):
            noise = rng.integers(-48, 49, own.shape)
            pixels = _large(np.clip(own + noise, 0, 255).astype(np.uint8), side)
            path = folder / f"{prefix}{label:05d}" / f"{number:05d}.png"
            path.write_bytes(encode_png(pixels, compress_level=1))


def _large(coarse: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    image = Image.fromarray(coarse if coarse.shape[2] == 3 else coarse[:, :, 0])
    large = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return large if large.ndim == 3 else large[:, :, None]
