"""What the images of a part are: reads those files that are not known as they are, decodes and keeps their pixels.

What is known of files is in `<data volume>/cache/`. A file whose path, size, times and inode are as they were is not
read again, unless its pixels are not kept in the format wanted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steps.common.images.decode import BadImage
from steps.common.images.facts import packed
from steps.common.images.shards import Appender, Table
from steps.preprocess import reading
from steps.preprocess.cache import Cache, File
from steps.preprocess.render import Rendered, of_array, of_file
from steps.preprocess.sources.scan import STAT, is_settled
from steps.preprocess.sources.source import Files, Part
from steps.preprocess.worker import Format, Piece, piece

_AT_ONCE = 8192  # images, and
_AT_ONCE_BYTES = 64 << 20  # pixels that are brought to disk together
_SLICE = 256
_NO_KEY = "0" * 32


class Contents(NamedTuple):
    """The content key of each image of a part, in hexadecimal; of one that cannot be used it is empty, and why."""

    keys: list[str]
    troubles: dict[int, BadImage]


class Keeper:
    """Keeps the pixels of images that are not kept yet, and what is known of files.

    Args:
        cache: What is known of files.
        appender: Takes pixels; None keeps none.
        table: The rows that are kept already.
    """

    def __init__(self, cache: Cache, appender: Appender | None = None, table: Table | None = None) -> None:
        self.cache = cache
        self._appender, self._table = appender, table
        self._added = set[str]()
        self._facts: list[NDArray[Any]] = []
        self._pixels: list[NDArray[np.uint8]] = []
        self._files: list[File] = []
        self._keys: list[str] = []
        self._small: list[NDArray[np.uint8]] = []
        self._waiting = self._bytes = 0

    def lacks(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Whether the pixels of each key are still to be kept."""
        if self._table is None or not keys:
            return np.zeros(len(keys), bool)
        return self._table.find(packed(list(keys))) < 0

    def take(self, found: Piece, files: Sequence[File] = ()) -> None:
        """Keep what was found of some images, and of these files."""
        new = []
        for row in np.flatnonzero(self.lacks(found.keys)).tolist():
            if (key := found.keys[row]) not in self._added:
                self._added.add(key)
                new.append(row)
        if new:
            rows = new if len(new) < len(found.keys) else slice(None)
            self._facts.append(found.facts[rows])
            self._pixels.append(found.pixels[rows])
            self._bytes += self._pixels[-1].nbytes
        self._keys += found.keys
        self._small.append(found.thumbnails)
        self._files += files
        self._waiting += len(found.keys)
        if self._waiting >= _AT_ONCE or self._bytes >= _AT_ONCE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Bring all of it to disk; the pixels first, so that no file is known whose pixels are lost."""
        if self._appender and self._facts:
            self._appender.append(np.concatenate(self._facts), np.concatenate(self._pixels))
        if self._keys:
            channels = max(small.shape[-1] for small in self._small)
            # Of a grey thumbnail beside those with colours all channels are equal.
            small = [np.broadcast_to(each, (*each.shape[:-1], channels)) for each in self._small]
            self.cache.add(self._files, self._keys, np.concatenate(small))
        self._facts, self._pixels, self._files, self._keys, self._small = [], [], [], [], []
        self._waiting = self._bytes = 0


@dataclass
class Looked:
    """What is known of a part before its files are read: keys, empty ones for others, and the rows to read."""

    keys: list[str]
    rows: list[int]


def look(part: Part, how: Format, keeper: Keeper) -> Looked:
    """What is known of a part, and which of its images to read: new ones, and those whose pixels are not kept."""
    if part.files is None:
        return Looked([""] * len(part.names), list(range(len(part.names))))
    keys = _known(part, part.files, how, keeper.cache)
    lacks = keeper.lacks([key or _NO_KEY for key in keys])
    return Looked(keys, [row for row, key in enumerate(keys) if not key or lacks[row]])


def contents(part: Part, looked: Looked, how: Format, keeper: Keeper, on_progress: Callable[[int], None]) -> Contents:
    """The content of each image of a part.

    Args:
        part: The part.
        looked: What is known of it.
        how: How images are decoded.
        keeper: Keeps what is found.
        on_progress: Called with the number of images just read.

    Returns:
        The contents, in the order of the part.

    Raises:
        StepError: A process that decodes ended.
    """
    keys, troubles = looked.keys, dict[int, BadImage]()
    for rows, found in _pieces(part, looked.rows, how):
        sound = [row for number, row in enumerate(rows) if number not in found.troubles]
        for row, key in zip(sound, found.keys, strict=True):
            keys[row] = key
        for number, trouble in found.troubles.items():
            keys[rows[number]], troubles[rows[number]] = "", trouble
        keeper.take(found, _trusted(part, sound, found.keys, how.max_pixels))
        on_progress(len(rows))
    return Contents(keys, troubles)


def _pieces(part: Part, rows: Sequence[int], how: Format) -> Iterator[tuple[Sequence[int], Piece]]:
    """Some rows, and what was found of them, in order."""
    if part.files is not None:
        done = 0
        for some, found in reading.pieces(part.files.folder, [part.names[row] for row in rows], how):
            yield rows[done : done + len(some)], found
            done += len(some)
        return
    for start in range(0, len(rows), _SLICE):
        here = rows[start : start + _SLICE]
        yield here, piece(here, partial(rendered, part, how=how), how.shape)


def rendered(part: Part, row: int, how: Format) -> Rendered:
    """What is kept of an image of a part; BadImage if it cannot be used."""
    image = part.get(row)
    if isinstance(image, bytes):
        return of_file(image, size=how.size, channels=how.channels, max_pixels=how.max_pixels)
    return of_array(image, size=how.size, channels=how.channels)


def _known(part: Part, files: Files, how: Format, cache: Cache) -> list[str]:
    """The keys of the files that are as they were; empty ones for others."""
    keys = [""] * len(part.names)
    row_of = {name: row for row, name in enumerate(part.names)}
    for path, stat, key in cache.files(how.max_pixels):
        row = row_of.get(path)
        if row is not None and files.stats[row * STAT.size : (row + 1) * STAT.size] == stat:
            keys[row] = key
    return keys


def _trusted(part: Part, rows: Sequence[int], keys: Sequence[str], max_pixels: int) -> list[File]:
    """What may be remembered of files that were read."""
    if part.files is None:
        return []
    size, since = STAT.size, part.files.since
    stats = [part.files.stats[row * size : (row + 1) * size] for row in rows]
    times = STAT.iter_unpack(b"".join(stats))
    return [
        File(part.names[row], stat, max_pixels, key)
        for row, stat, key, (_, modified, changed, _) in zip(
            rows, stats, packed(list(keys)).tolist(), times, strict=True
        )
        if is_settled(max(modified, changed), since)
    ]
