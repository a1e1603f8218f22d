"""What preprocess remembers of image files that are gone, `<data volume>/cache/*.sqlite`: counts it, and takes it out.

The tables are those of `steps/preprocess/cache.py`: `file` has a row for each file, and `thumbnail` rows of many images
together, their keys of 16 bytes one after the other. What goes wrong leaves everything as it is.
"""

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from steps.common.images.facts import KEY_BYTES

_WAIT_SECONDS = 60


def program(cache: Path) -> str:
    """What tells the caches of one version of the program from those of others.

    Args:
        cache: The SQLite file: `images-<digest>.sqlite`, or `images-<digest>-<shard>.sqlite` of a shard of the source.

    Returns:
        The part of its name that they share.
    """
    return re.sub(r"^([^-]+-[^-]+)-.*", r"\1", cache.stem)


def gone(cache: Path, root: Path) -> tuple[list[str], float]:
    """Which files are remembered that are gone.

    Args:
        cache: The SQLite file.
        root: The folder that paths are relative to.

    Returns:
        Their paths, and their share of all that are remembered.
    """
    paths: list[str] = []
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{cache.as_uri()}?mode=ro", uri=True)) as connection:
        paths = [path for (path,) in connection.execute("select path from file")]
    found = [path for path in paths if not os.path.lexists(root / path)]
    return found, len(found) / max(1, len(paths))


def forget(cache: Path, paths: Sequence[str]) -> None:
    """Take files out, with the thumbnails that no other file has, and give their room back to the disk."""
    if not cache.exists():
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(cache, timeout=_WAIT_SECONDS)) as connection:
        with connection:
            connection.execute("begin immediate")
            connection.execute("create temporary table gone (path text primary key)")
            connection.executemany("insert or ignore into gone values (?)", ((path,) for path in paths))
            of_gone = {key for (key,) in connection.execute("select key from file where path in gone")}
            connection.execute("delete from file where path in gone")
            _forget_thumbnails(connection, of_gone - {key for (key,) in connection.execute("select key from file")})
        connection.execute("vacuum")


def _forget_thumbnails(connection: sqlite3.Connection, forgotten: set[bytes]) -> None:
    for row, keys, pixels in connection.execute("select rowid, keys, pixels from thumbnail").fetchall():
        own = [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
        left = [number for number, key in enumerate(own) if key not in forgotten]
        if not left:
            connection.execute("delete from thumbnail where rowid = ?", (row,))
        elif len(left) < len(own):
            size = len(pixels) // len(own)
            some = b"".join(pixels[number * size : (number + 1) * size] for number in left)
            values = (b"".join(own[number] for number in left), some, row)
            connection.execute("update thumbnail set keys = ?, pixels = ? where rowid = ?", values)
