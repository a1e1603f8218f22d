"""Remembers what images files held: reads and writes an SQLite file, which may be deleted at any time.

A run that is killed loses what it did not commit. What goes wrong with the cache costs time and nothing else.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TABLES = (
    "create table if not exists file (path text primary key, stat blob, max_pixels int, key blob) without rowid",
    "create table if not exists thumbnail (key blob primary key, pixels blob) without rowid",
)
_PAGES = "pragma cache_size = -65536"  # KiB
_SOME = 500  # keys of one query
_WAIT_SECONDS = 60


class File(NamedTuple):
    """A file as it was when it was read: its path, what tells a changed one, the limit of pixels, its content key."""

    path: str
    stat: bytes
    max_pixels: int
    key: str


class Cache:
    """What files held.

    Args:
        path: The SQLite file, made if it is not there, and made anew if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def files(self, max_pixels: int) -> Iterator[tuple[str, bytes, str]]:
        """Path, stat and key of each file that was read under this limit."""
        query = "select path, stat, key from file where max_pixels = ?"
        for path, stat, key in self._rows(query, [max_pixels]):
            yield path, stat, key.hex()

    def thumbnails(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The thumbnails of those of these keys that are known: of a grey image one channel, of others three."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _SOME):
            some = [bytes.fromhex(key) for key in keys[start : start + _SOME]]
            query = f"select key, pixels from thumbnail where key in ({', '.join('?' * len(some))})"  # noqa: S608
            found |= {key.hex(): pixels for key, pixels in self._rows(query, some)}
        return found

    def add(self, files: Iterable[File], thumbnails: Mapping[str, bytes]) -> None:
        """Add files, and thumbnails by the key of their image."""
        rows = [(file.path, file.stat, file.max_pixels, bytes.fromhex(file.key)) for file in files]
        small = [(bytes.fromhex(key), pixels) for key, pixels in thumbnails.items()]
        for anew in (False, True):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                if anew:
                    self._path.unlink(missing_ok=True)
                with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as connection, connection:
                    for statement in (_PAGES, *_TABLES):
                        connection.execute(statement)
                    connection.executemany("insert or replace into file values (?, ?, ?, ?)", rows)
                    connection.executemany("insert or ignore into thumbnail values (?, ?)", small)
                return
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, full or read-only: it is none the worse
                    return
            except OSError:
                return

    def _rows(self, query: str, values: Sequence[object]) -> Iterator[Any]:
        """The rows of a query, as far as they can be read."""
        if self._path.exists():
            with (
                suppress(sqlite3.Error),
                closing(
                    sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)
                ) as connection,
            ):
                yield from connection.execute(query, values)


def squeezed(thumbnails: NDArray[np.uint8]) -> list[bytes]:
    """Thumbnails uint8 [N, side, side, 3] as bytes each, of grey ones one channel."""
    grey = (thumbnails == thumbnails[..., :1]).all((1, 2, 3))
    return [(each[..., 0] if is_grey else each).tobytes() for each, is_grey in zip(thumbnails, grey, strict=True)]


def stretched(thumbnails: Sequence[bytes], side: int) -> NDArray[np.uint8]:
    """Thumbnails as uint8 [N, side * side], if all are grey, else [N, side * side * 3]."""
    if all(len(each) == side * side for each in thumbnails):
        return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(thumbnails), -1)
    found = np.empty((len(thumbnails), side * side, 3), np.uint8)
    for row, each in enumerate(thumbnails):
        found[row] = np.frombuffer(each, np.uint8).reshape(side * side, -1)
    return found.reshape(len(thumbnails), -1)
