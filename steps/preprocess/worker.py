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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.common.images.decode import BadImage
from steps.common.images.facts import FACTS, facts
from steps.preprocess.render import SIDE, Rendered, of_file


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


def piece(count: int, render: Callable[[int], Rendered], shape: tuple[int, int, int]) -> Piece:
    """What is found of images.

    Args:
        count: How many there are.
        render: Gives what is kept of the image of a number, or raises BadImage.
        shape: Of its pixels.

    Returns:
        All of it.
    """
    keys, troubles = list[str](), dict[int, BadImage]()
    pixels = np.empty((count, *shape), np.uint8)
    thumbnails = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for number in range(count):
        try:
            key, thumbnails[len(keys)], pixels[len(keys)] = render(number)
        except BadImage as error:
            troubles[number] = error
        else:
            keys.append(key)
    sound = slice(len(keys))
    return Piece(keys, thumbnails[sound], facts(keys, pixels[sound]), pixels[sound], troubles)


def of_files(folder: Path, names: Sequence[str], how: Format) -> Piece:
    """What is found of the files of these names in a folder."""

    def render(number: int) -> Rendered:
        try:
            data = (folder / names[number]).read_bytes()
        except OSError as error:
            raise BadImage("empty", f"cannot be read ({error.strerror}); let this user read it.") from error
        return of_file(data, size=how.size, channels=how.channels, max_pixels=how.max_pixels)

    return piece(len(names), render, how.shape)


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
