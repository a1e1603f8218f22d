"""What an image is, whatever file holds it: a key of its decoded pixels, and a thumbnail to find near copies by.

Reads image files; remembers what it found in `<data volume>/cache/content.sqlite`, so that a file whose path, size,
times and inode are as they were is not read again. The cache may be deleted at any time.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.decode import BadImage, read_header, upright
from steps.preprocess.copies import SIDE

# A file that was written this shortly before it was looked at may have been written again at the same time stamp
# ("racy" in Git's words); network file systems have stamps of one second.
_RACY_SECONDS = 3
_TABLE = (
    "create table if not exists content (path text primary key, stat text, max_pixels int, key text, thumbnail blob)"
)


@dataclass(frozen=True)
class Content:
    """An image's key, in hexadecimal, and its thumbnail, uint8 [SIDE * SIDE * 3] as bytes; or why it has neither."""

    key: str = ""
    thumbnail: bytes = b""
    trouble: BadImage | None = None


def of_pixels(pixels: NDArray[np.uint8]) -> Content:
    """The content of pixels uint8 [H, W] or [H, W, 3]."""
    colours = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    height, width = colours.shape[:2]
    digest = hashlib.sha256(f"{width} x {height}:".encode() + np.ascontiguousarray(colours).data)
    small = Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BOX)
    return Content(digest.hexdigest()[:32], small.tobytes())


def of_bytes(data: bytes, max_pixels: int) -> Content:
    """The content of an image file's bytes, upright, transparent pixels on white; its trouble if it is no image."""
    try:
        return of_pixels(np.asarray(upright(read_header(data, max_pixels), "RGB")))
    except BadImage as error:
        return Content(trouble=error)


def of_files(
    paths: Sequence[Path], cache: Path, max_pixels: int, on_progress: Callable[[int, int], None] = lambda *_: None
) -> list[Content]:
    """The content of each file; only those are read that the cache does not know as they are.

    Args:
        paths: Files, each of which can be looked at.
        cache: The cache's file, made if it is not there, and made anew if it is damaged.
        max_pixels: An image with more is not decoded.
        on_progress: Called with the number of files read so far, and of those to read.
    """
    now = time.time_ns()
    stats = [_stat(path) for path in paths]
    known = _load(cache)
    found: list[Content | None] = []
    for path, (stat, _) in zip(paths, stats, strict=True):
        row = known.get(os.fspath(path))
        same = row is not None and row[0] == stat and row[1] == max_pixels
        found.append(Content(row[2], row[3]) if row is not None and same else None)
    missing = [row for row, content in enumerate(found) if content is None]
    fresh: list[tuple[str, str, int, str, bytes]] = []
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda row: _read(paths[row], max_pixels), missing)
        for count, (row, content) in enumerate(zip(missing, read, strict=True), 1):
            found[row] = content
            stat, changed = stats[row]
            if content.trouble is None and now - changed > _RACY_SECONDS * 10**9:
                fresh.append((os.fspath(paths[row]), stat, max_pixels, content.key, content.thumbnail))
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


def _load(cache: Path) -> dict[str, tuple[str, int, str, bytes]]:
    if not cache.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{cache.as_uri()}?mode=ro", uri=True, timeout=60)) as connection:
            rows = connection.execute("select path, stat, max_pixels, key, thumbnail from content").fetchall()
    except sqlite3.Error:
        return {}
    return {path: (stat, limit, key, thumbnail) for path, stat, limit, key, thumbnail in rows}


def _store(cache: Path, rows: Iterable[tuple[str, str, int, str, bytes]]) -> None:
    """Add rows; what goes wrong with that costs time in the next run and nothing else."""
    rows = list(rows)
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
