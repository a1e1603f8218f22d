"""What the hostile requests are made of: one attack, and the HTTP around a body."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.model_archive import NAME, picture, png

PATH = f"/predictions/{NAME}"
LIMIT = 4 << 20  # max_request_size
IMAGE = png(picture(1))


class Attack(NamedTuple):
    """The bytes sent on one connection, in pieces, with `pause` seconds before each but the first.

    `statuses` are the statuses that may be answered, any 4xx if empty; `silent` if the connection may be closed without
    an answer.
    """

    kind: str
    pieces: list[bytes]
    silent: bool = False
    statuses: tuple[int, ...] = ()
    pause: float = 0.0


def http(body: bytes, *headers: str, line: str = f"POST {PATH} HTTP/1.1", length: object = None) -> bytes:
    """A POST for a prediction with these headers; its Content-Length is right unless `length` is given."""
    length = len(body) if length is None else length
    lines = [line, "Host: here", "Connection: close", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def one(*pieces: bytes, silent: bool = False, statuses: tuple[int, ...] = ()) -> Iterator[Attack]:
    """One attack, whose kind is set later."""
    yield Attack("", list(pieces), silent, statuses)


def noise(chance: random.Random, most: int = 3000) -> bytes:
    """Random bytes, fewer than `most`."""
    return chance.randbytes(chance.randrange(most))


def image_type(chance: random.Random) -> str:
    """A content type that is taken as an image file."""
    return "Content-Type: " + chance.choice(["image/png", "image/jpeg", "application/octet-stream", "image/x"])
