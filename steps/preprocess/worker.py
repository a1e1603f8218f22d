"""Decodes image files, also in a process of its own, which is asked through a pipe and reads the files.

A plain process that ends when its pipe does leaves nothing behind if the run is killed, and imports only what decodes.
"""

import json
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

from steps.common.images.decode import BadImage
from steps.common.images.facts import FACTS, facts
from steps.preprocess.render import SIDE, Rendered, of_file, thumbnails

Row = TypeVar("Row")


@dataclass(frozen=True)
class Piece:
    """What was found of some images.

    Of those that can be used, in order: content keys, thumbnails uint8 [N, SIDE, SIDE, 3], facts FACTS [N], and pixels
    uint8 [N, H, W, C]. Of the others their troubles, by their numbers.
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
    small_ones = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    together: list[int] = []
    for number, row in enumerate(rows):
        try:
            key, small, pixels[len(keys)] = render(row)
        except BadImage as error:
            troubles[number] = error
            continue
        if small is None:
            together.append(len(keys))
        else:
            small_ones[len(keys)] = small
        keys.append(key)
    if together:
        small_ones[together] = thumbnails(pixels[together])
    sound = slice(len(keys))
    return Piece(keys, small_ones[sound], facts(keys, pixels[sound]), pixels[sound], troubles)


def of_files(folder: Path, names: Sequence[str], how: Format) -> Piece:
    """What is found of the files of these names in a folder."""
    above = f"{folder}/"

    def render(name: str) -> Rendered:
        try:
            with open(above + name, "rb") as file:
                data = file.read()
        except OSError as error:
            raise BadImage("empty", f"cannot be read ({error.strerror}); let this user read it.") from error
        return of_file(data, size=how.size, channels=how.channels, max_pixels=how.max_pixels)

    return piece(names, render, how.shape)


def ask(connection: Connection, folder: Path, names: Sequence[str], how: Format) -> Piece:
    """What a worker finds of these files; EOFError or OSError if it ended."""
    connection.send_bytes(json.dumps({"folder": str(folder), "names": names, **how.__dict__}).encode())
    told = json.loads(connection.recv_bytes())
    count = len(told["keys"])
    return Piece(
        told["keys"],
        np.frombuffer(connection.recv_bytes(), np.uint8).reshape(count, SIDE, SIDE, 3),
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
        connection.send_bytes(json.dumps({"keys": found.keys, "troubles": troubles}).encode())
        for array in (found.thumbnails, found.facts, found.pixels):
            connection.send_bytes(array.tobytes())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run is interrupted, and this process ends with it
    with suppress(EOFError, OSError):
        _serve(Connection(int(sys.argv[1])))
