"""Image files of many sizes, modes and formats, and the pixels that they become: `image_vectors.npz` beside this.

Both preprocess and the server are held against it. `python -m tests.support.image_vectors` writes it anew, which is
only needed when a vector is added or what an image becomes is meant to change.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILE = Path(__file__).with_suffix(".npz")
# Image size and channels: as the tests' tiny archive has them, and in colour.
SETTINGS = ((8, 1), (28, 3))


def files() -> Iterator[tuple[str, bytes]]:
    """A name and the bytes of each image; the name ends as a file's would."""
    for width, height in ((1, 1), (8, 8), (28, 28), (29, 27), (3, 200), (200, 3), (64, 64), (300, 201)):
        yield f"grey-{width}x{height}.png", _save(_scene(width, height).convert("L"), "PNG")
    colour = _scene(50, 40)
    yield "colour.png", _save(colour, "PNG")
    yield "palette.png", _save(colour.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")
    yield "bits.png", _save(colour.convert("1"), "PNG")
    yield "grey-alpha.png", _save(colour.convert("LA"), "PNG")
    veil = colour.copy()
    veil.putalpha(Image.linear_gradient("L").resize(veil.size))
    yield "alpha.png", _save(veil, "PNG")
    yield "transparent-grey.png", _save(colour.convert("L"), "PNG", transparency=0)
    # Between the values that 8 bits have, where rounding shows.
    deep = Image.fromarray(np.asarray(colour.convert("L")).astype(np.uint16) * 256 + 200)
    yield "16-bit.png", _save(deep, "PNG")
    yield "16-bit.tiff", _save(deep, "TIFF")
    yield "colour.jpeg", _save(colour, "JPEG", quality=90)
    yield "grey.jpeg", _save(colour.convert("L"), "JPEG", quality=90)
    yield "large.jpeg", _save(_scene(1200, 900), "JPEG", quality=80)
    yield "progressive.jpeg", _save(colour, "JPEG", quality=90, progressive=True)
    yield "cmyk.jpeg", _save(colour.convert("CMYK"), "JPEG", quality=90)
    yield "cmyk.tiff", _save(colour.convert("CMYK"), "TIFF")
    for number in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        yield f"turned-{number}.jpeg", _save(colour, "JPEG", quality=90, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "turned.png", _save(colour, "PNG", exif=exif)
    frames: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", colour.size, "red")], "duration": 50}
    yield "animated.gif", _save(colour, "GIF", **frames)
    yield "animated.webp", _save(colour, "WEBP", lossless=True, **frames)
    yield "animated.png", _save(colour, "PNG", **frames)
    yield "colour.webp", _save(colour, "WEBP", quality=90)
    yield "colour.bmp", _save(colour, "BMP")
    yield "grey.pgm", _save(colour.convert("L"), "PPM")


def load() -> dict[str, tuple[bytes, dict[tuple[int, int], NDArray[np.uint8]]]]:
    """By name the bytes of each file, and for each of SETTINGS its pixels uint8 [size, size, channels]."""
    with np.load(FILE) as stored:
        names = [name for name in stored.files if "@" not in name]
        return {
            name: (stored[name].tobytes(), {key: stored[f"{name}@{key[0]}x{key[1]}"] for key in SETTINGS})
            for name in names
        }


def _scene(width: int, height: int) -> Image.Image:
    """Gradients, an edge and a corner of its own, so that neither turning nor mirroring goes unseen."""
    down, right = np.mgrid[0:height, 0:width] / (max(height, width) - 1 or 1)
    pixels = np.stack([down * 255, right * 200, (down + right < 0.6) * 180], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


if __name__ == "__main__":
    from steps.common.images.decode import decode

    arrays: dict[str, Any] = {}
    for name, data in files():
        arrays[name] = np.frombuffer(data, np.uint8)
        for size, channels in SETTINGS:
            arrays[f"{name}@{size}x{channels}"] = decode(data, size=size, channels=channels, max_pixels=10**7)
    np.savez_compressed(FILE, **arrays)
