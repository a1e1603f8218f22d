"""What an image is, whatever file holds it: a key of its decoded pixels, and a thumbnail to find near copies by.

Reads image files; remembers what it found in `<data volume>/cache/content.sqlite`, so that a file whose path, size,
times and inode are as they were is not read again. The cache may be deleted at any time.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.images.content_key import colours, key_of_pixels, pixels_of_file
from steps.common.images.decode import BadImage
from steps.preprocess.copies import SIDE

# A file that was written this shortly before it was looked at may have been written again at the same time stamp
# ("racy" in Git's words); network file systems have stamps of one second.
_RACY_SECONDS = 3
_TABLE = (
    "create table if not exists content (path text primary key, stat text, max_pixels int, key text, thumbnail blob)"
)


@dataclass(frozen=True)
class Content:
    """An image's key, in hexadecimal, and its thumbnail, if it was read from a file; or why it has neither."""

    key: str = ""
    thumbnail: bytes = b""
    trouble: BadImage | None = None


class _Row(NamedTuple):
    """A line of the cache."""

    path: str
    stat: str
    max_pixels: int
    key: str
    thumbnail: bytes


def of_pixels(pixels: NDArray[np.uint8]) -> Content:
    """The content of pixels uint8 [H, W] or [H, W, 3]."""
    return Content(key_of_pixels(pixels))


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """The thumbnail of pixels uint8 [H, W] or [H, W, 3]: uint8 [SIDE * SIDE * 3] as bytes."""
    return Image.fromarray(colours(pixels)).resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def of_bytes(data: bytes, max_pixels: int) -> Content:
    """The content of an image file's bytes, upright, transparent pixels on white; its trouble if it is no image."""
    try:
        pixels = pixels_of_file(data, max_pixels)
    except BadImage as error:
        return Content(trouble=error)
    return replace(of_pixels(pixels), thumbnail=thumbnail(pixels))


def of_files(
    paths: Sequence[Path], cache: Path, max_pixels: int, on_progress: Callable[[int, int], None] = lambda *_: None
) -> list[Content]:
    """The content of each file; only those are read that the cache does not know as they are.

    Args:
        paths: Files, each of which can be looked at.
        cache: The cache's file, made if it is not there, and made anew if it is damaged.
        max_pixels: An image with more is not decoded.
        on_progress: Called with the number of files read so far, and of those to read.

    Returns:
        The contents, in the order of the files.
    """
    now = time.time_ns()
    stats = [_stat(path) for path in paths]
    known = _load(cache)
    found: list[Content | None] = []
    for path, (stat, _) in zip(paths, stats, strict=True):
        row = known.get(os.fspath(path))
        found.append(
            Content(row.key, row.thumbnail) if row and (row.stat, row.max_pixels) == (stat, max_pixels) else None
        )
    missing = [row for row, content in enumerate(found) if content is None]
    fresh: list[_Row] = []
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda number: _read(paths[number], max_pixels), missing)
        for count, (number, content) in enumerate(zip(missing, read, strict=True), 1):
            found[number] = content
            stat, changed = stats[number]
            if content.trouble is None and now - changed > _RACY_SECONDS * 10**9:
                fresh.append(_Row(os.fspath(paths[number]), stat, max_pixels, content.key, content.thumbnail))
            on_progress(count, len(missing))
    _store(cache, fresh)
    return [content for content in found if content is not None]


def _read(path: Path, max_pixels: int) -> Content:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Content(trouble=BadImage("empty", f"cannot be read ({error.strerror}); let this user read it."))
    return of_bytes(data, max_pixels)


def _stat(path: Path) -> tuple[str, int]:
    """What tells a changed file from the same one, and when it changed last, in nanoseconds."""
    try:
        found = path.stat()
    except OSError:
        return "", 0
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}", changed


def _load(cache: Path) -> dict[str, _Row]:
    if not cache.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{cache.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            rows = connection.execute("select path, stat, max_pixels, key, thumbnail from content").fetchall()
    except sqlite3.Error:
        return {}
    return {row[0]: _Row(*row) for row in rows}


def _store(cache: Path, rows: Sequence[_Row]) -> None:
    """Add rows; what goes wrong with that costs time in the next run and nothing else."""
    if not rows:
        return
    for anew in (False, True):
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            if anew:
                cache.unlink(missing_ok=True)
            with closing(sqlite3.connect(cache, timeout=60)) as connection, connection:
                connection.execute(_TABLE)
                connection.executemany("insert or replace into content values (?, ?, ?, ?, ?)", rows)
            return
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, full or read-only: it is none the worse for it
                return
        except OSError:
            return
