"""Remembers what images files held: reads and writes SQLite files, which may be deleted at any time.

A run that is killed loses what it did not commit. What goes wrong with the cache costs time and nothing else. Pods that
write at the same time have a file each, since SQLite's locks may not hold between machines.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steps.common.images.shards import Keys
from steps.preprocess.render import SIDE

_TABLES = (
    "create table if not exists file (path text primary key, stat blob, max_pixels int, key blob) without rowid",
    "create table if not exists thumbnail (keys blob, pixels blob)",  # of many images together
)
_PAGES = "pragma cache_size = -65536"  # KiB
_WAIT_SECONDS = 60


class File(NamedTuple):
    """A row of the table: the file's path, what tells a changed one, the limit of pixels, its content key."""

    path: str
    stat: bytes
    max_pixels: int
    key: bytes


class Cache:
    """What files held.

    Args:
        path: The SQLite file, made if it is not there, and made anew if it is damaged.
        writer: The name of who writes beside others, to `<stem>-<writer>.sqlite`; what each wrote is read.
    """

    def __init__(self, path: Path, writer: str = "") -> None:
        self._path = path
        self._own = path.with_stem(f"{path.stem}-{writer}") if writer else path

    def files(self, max_pixels: int) -> Iterator[tuple[str, bytes, str]]:
        """Path, stat and key of each file that was read under this limit."""
        query = "select path, stat, key from file where max_pixels = ?"
        for path, stat, key in self._rows(query, [max_pixels]):
            yield path, stat, key.hex()

    def thumbnails(self, keys: NDArray[np.void]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The thumbnails of images.

        Args:
            keys: Their content keys, V16 [N].

        Returns:
            Thumbnails uint8 [N, D], of one channel if all are grey; and bool [N], whether each is known.
        """
        wanted = Keys(keys)
        found, known = np.zeros((len(keys), SIDE * SIDE), np.uint8), np.zeros(len(keys), bool)
        for held, pixels in self._rows("select keys, pixels from thumbnail", []):
            row_of = wanted.find(np.frombuffer(held, keys.dtype))
            here = row_of >= 0
            values = np.frombuffer(pixels, np.uint8).reshape(len(here), -1)
            if values.shape[1] > found.shape[1]:
                found = np.repeat(found, 3, axis=1)
            elif values.shape[1] < found.shape[1]:
                values = np.repeat(values, 3, axis=1)
            found[row_of[here]] = values[here]
            known[row_of[here]] = True
        return found, known

    def add(self, files: Iterable[File], keys: Sequence[str] = (), thumbnails: NDArray[np.uint8] | None = None) -> None:
        """Add what is known.

        Args:
            files: Files.
            keys: The content keys of images.
            thumbnails: Their thumbnails, uint8 [N, SIDE, SIDE, C].
        """
        rows, small = list(files), []
        if thumbnails is not None and len(thumbnails):
            is_grey = bool((thumbnails == thumbnails[..., :1]).all())
            small = [(bytes.fromhex("".join(keys)), (thumbnails[..., 0] if is_grey else thumbnails).tobytes())]
        for anew in (False, True):
            try:
                self._own.parent.mkdir(parents=True, exist_ok=True)
                if anew:
                    self._own.unlink(missing_ok=True)
                with closing(sqlite3.connect(self._own, timeout=_WAIT_SECONDS)) as connection, connection:
                    for statement in (_PAGES, *_TABLES):
                        connection.execute(statement)
                    connection.executemany("insert or replace into file values (?, ?, ?, ?)", rows)
                    connection.executemany("insert into thumbnail values (?, ?)", small)
                return
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, full or read-only: it is none the worse
                    return
            except OSError:
                return

    def _rows(self, query: str, values: Sequence[object]) -> Iterator[Any]:
        """The rows of a query, as far as they can be read."""
        for path in (self._path, *sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}"))):
            if path.exists():
                place = f"{path.as_uri()}?mode=ro"
                with (
                    suppress(sqlite3.Error),
                    closing(sqlite3.connect(place, uri=True, timeout=_WAIT_SECONDS)) as connection,
                ):
                    yield from connection.execute(query, values)
