"""Decodes image files, also in a process of its own, which is asked through a pipe and reads the files.

A plain process that ends when its pipe does leaves nothing behind if the run is killed, and imports only what decodes.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from steps.common.images.content_key import keys_of_images
from steps.common.images.decode import BadImage
from steps.common.images.facts import FACTS, facts
from steps.preprocess.render import SIDE, Rendered, of_file, thumbnails

_READ = 1 << 16  # bytes at a time

Row = TypeVar("Row")


@dataclass(frozen=True)
class Piece:
    """What was found of some images.

    Of those that can be used, in order: content keys, thumbnails uint8 [N, SIDE, SIDE, 1], or 3 if one has colour,
    facts FACTS [N], and pixels uint8 [N, H, W, C]. Of the others their troubles, by their numbers.
    """

    keys: list[str]
    thumbnails: NDArray[np.uint8]
    facts: NDArray[Any]
    pixels: NDArray[np.uint8]
    troubles: Mapping[int, BadImage] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """How images are decoded: pixels a side, channels, and the most pixels of a file."""

    size: int
    channels: int
    max_pixels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self.size, self.size, self.channels


def piece(rows: Sequence[Row], render: Callable[[Row], Rendered], shape: tuple[int, int, int]) -> Piece:
    """What is found of images.

    Args:
        rows: What `render` takes, for each image.
        render: Gives what is kept of an image, or raises BadImage.
        shape: Of its pixels.

    Returns:
        All of it.
    """
    keys, troubles = list[str](), dict[int, BadImage]()
    pixels = np.empty((len(rows), *shape), np.uint8)
    alone, together = dict[int, NDArray[np.uint8]](), list[int]()
    for number, row in enumerate(rows):
        try:
            key, small, pixels[len(keys)] = render(row)
        except BadImage as error:
            troubles[number] = error
            continue
        if key is None or small is None:
            together.append(len(keys))
        else:
            alone[len(keys)] = small
        keys.append(key or "")
    pixels = pixels[: len(keys)]
    if together:
        for number, key in zip(together, keys_of_images(pixels[together] if alone else pixels), strict=True):
            keys[number] = key
    return Piece(keys, _small_ones(pixels, alone, together), facts(keys, pixels), pixels, troubles)


def _small_ones(
    pixels: NDArray[np.uint8], alone: Mapping[int, NDArray[np.uint8]], together: Sequence[int]
) -> NDArray[np.uint8]:
    """The thumbnails of images: those that are there, and those that are computed of the pixels."""
    if together and not alone:
        return thumbnails(pixels)
    channels = max([small.shape[-1] for small in (*alone.values(), *pixels[together[:1]])], default=1)
    found = np.empty((len(pixels), SIDE, SIDE, channels), np.uint8)
    for row, small in alone.items():
        found[row] = small
    if together:
        found[together] = thumbnails(pixels[together])
    return found


def of_files(folder: Path, names: Sequence[str], how: Format) -> Piece:
    """What is found of the files of these names in a folder."""
    above = f"{folder}/"

    def render(name: str) -> Rendered:
        try:
            data = _content(above + name)
        except OSError as error:
            raise BadImage("empty", f"cannot be read ({error.strerror}); let this user read it.") from error
        return of_file(data, size=how.size, channels=how.channels, max_pixels=how.max_pixels)

    return piece(names, render, how.shape)


def _content(path: str) -> bytes:
    """The bytes of a file; without a file object, which takes as long again as to read a small one."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts = [os.read(handle, _READ)]
        while parts[-1]:
            parts.append(os.read(handle, _READ))
        return b"".join(parts)
    finally:
        os.close(handle)


def ask(connection: Connection, folder: Path, names: Sequence[str], how: Format) -> Piece:
    """What a worker finds of these files; EOFError or OSError if it ended."""
    connection.send_bytes(json.dumps({"folder": str(folder), "names": names, **how.__dict__}).encode())
    told = json.loads(connection.recv_bytes())
    count = len(told["keys"])
    return Piece(
        told["keys"],
        np.frombuffer(connection.recv_bytes(), np.uint8).reshape(count, SIDE, SIDE, told["channels"]),
        np.frombuffer(connection.recv_bytes(), FACTS),
        np.frombuffer(connection.recv_bytes(), np.uint8).reshape(count, *how.shape),
        {number: BadImage(rule, text) for number, rule, text in told["troubles"]},
    )


def _serve(connection: Connection) -> None:
    """Answer until the pipe is closed."""
    while True:
        wanted = json.loads(connection.recv_bytes())
        folder, names = Path(wanted.pop("folder")), wanted.pop("names")
        found = of_files(folder, names, Format(**wanted))
        troubles = [
            (number, bad.rule, str(bad).removeprefix(f"{bad.rule}: ")) for number, bad in found.troubles.items()
        ]
        told = {"keys": found.keys, "channels": found.thumbnails.shape[-1], "troubles": troubles}
        connection.send_bytes(json.dumps(told).encode())
        for array in (found.thumbnails, found.facts, found.pixels):
            connection.send_bytes(array.tobytes())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run is interrupted, and this process ends with it
    with suppress(EOFError, OSError):
        _serve(Connection(int(sys.argv[1])))
