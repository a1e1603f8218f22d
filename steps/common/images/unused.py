"""Finds the pixels on the data volume that no split names, and removes them, beside running runs.

A shard of which some rows are used is written anew without the others, and then removed. A process that has it open
goes on: a file in use is removed only by a later clean-up. Runs that append wait, and so does this. A folder that is
held, since several pods decode into it, is left to a later clean-up.
"""

import fcntl
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.files import sync
from steps.common.images.dataset import open_split
from steps.common.images.facts import packed
from steps.common.images.places import FORMAT, KIND
from steps.common.images.places import PIXELS as FOLDER
from steps.common.images.shards import PIXELS, ROWS, Shards, Table
from steps.common.images.stored import shards_of

_COPIED_ROWS = 4096


@dataclass(frozen=True)
class Unused:
    """A folder of shards, the rows in it that no split names, and the bytes that they and left-over files take."""

    folder: Path
    rows: int
    bytes: int


def unused(volume: Path, splits: Iterable[str]) -> list[Unused]:
    """What these splits do not need.

    Args:
        volume: The data volume.
        splits: The ids of all splits that stay; one that is not there, or of an earlier version, needs nothing.

    Returns:
        For each folder of shards what is unused.
    """
    needed = _needed(volume, splits)
    found = []
    for folder in _folders(volume):
        shards = shards_of(folder)
        if shards.is_held:
            continue
        table = shards.table()
        count = len(table.facts) - len(_used(table, needed.get(folder.name, set())))
        left = sum(path.stat().st_size for path in _left_over(folder))
        found.append(Unused(folder, count, count * shards.row_bytes + left))
    return found


def remove_unused(volume: Path, splits: Iterable[str]) -> int:
    """Remove the pixels that these splits do not need.

    Args:
        volume: The data volume.
        splits: As for `unused`. Splits that are made meanwhile are no danger: while a run makes some, this waits, and
            then reads again which there are.

    Returns:
        The bytes freed. A shard that a process has open is freed by a later call; on a file system without locks
        nothing is.

    Raises:
        StepError: The volume is full or cannot be written.
    """
    kept = set(splits)
    known = set(_ids(volume))
    freed = 0
    for folder in _folders(volume):
        shards = shards_of(folder)
        with shards.alone() as locked:
            if not locked or shards.is_held:
                continue
            newer = set(_ids(volume)) - known
            needed = _needed(volume, kept | newer).get(folder.name, set())
            before = _size(folder)
            table = shards.table()
            used = _used(table, needed)
            for number, name in enumerate(table.shards):
                rows = used[table.shard[used] == number]
                _shrink(shards, table, name, rows)
            for path in _left_over(folder):
                _remove_if_free(path)
            freed += before - _size(folder)
    return freed


def _shrink(shards: Shards, table: Table, name: str, rows: NDArray[np.int64]) -> None:
    """Leave these rows of a shard, in a new one, unless it holds no others."""
    records = shards.folder / f"{name}{ROWS}"
    pixels = records.with_suffix(PIXELS)
    if len(rows) * shards.row_bytes == pixels.stat().st_size:
        return
    if len(rows):
        with shards.beginning() as appender, pixels.open("rb") as file:
            for start in range(0, len(rows), _COPIED_ROWS):
                some = rows[start : start + _COPIED_ROWS]
                images = np.empty((len(some), *shards.shape), np.uint8)
                for image, place in zip(images, table.place[some], strict=True):
                    file.seek(int(place) * shards.row_bytes)
                    file.readinto(image.data.cast("B"))
                appender.append(table.facts[some], images)
    records.unlink()
    sync(shards.folder)
    _remove_if_free(pixels)


def _remove_if_free(path: Path) -> None:
    """Remove a file of pixels that no process has open."""
    with suppress(OSError), path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _left_over(folder: Path) -> list[Path]:
    """Pixels without records: of a run that was killed, or of a shard that was in use when it was removed."""
    return [path for path in folder.glob(f"[!.]*{PIXELS}") if not path.with_suffix(ROWS).exists()]


def _used(table: Table, keys: set[str]) -> NDArray[np.int64]:
    """The rows of these keys, each once."""
    rows = np.unique(table.find(packed(sorted(keys))))
    return rows[rows >= 0]


def _needed(volume: Path, splits: Iterable[str]) -> dict[str, set[str]]:
    """The keys that splits name in each folder of shards."""
    needed: dict[str, set[str]] = {}
    for id in splits:
        path = volume / KIND / id
        with suppress(FileNotFoundError):
            folder = json.loads((path / FORMAT).read_text())["folder"]
            needed.setdefault(folder, set()).update(open_split(path).rows.keys)
    return needed


def _ids(volume: Path) -> list[str]:
    return [path.name for path in (volume / KIND).glob("[!.]*")]


def _folders(volume: Path) -> list[Path]:
    return sorted(path for path in (volume / FOLDER).glob("[!.]*") if path.is_dir())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
