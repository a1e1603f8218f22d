"""Images of a split, read by rows from their places in shards, each checked when first read; and reading ahead."""

import fcntl
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from steps.common.errors import StepError
from steps.common.images.facts import packed
from steps.common.images.shards import PIXELS, ROWS, Shards, Table

_AHEAD = 2  # pieces that are read while one is used
_TRIES = 3
_ITERATED = 64  # images that are read at a time where they are taken one by one

Rows = TypeVar("Rows")
Rows_contra = TypeVar("Rows_contra", contravariant=True)


class ByRows(Protocol[Rows_contra]):
    """Images uint8 [N, H, W, C] that are taken by rows: an array, or what reads them."""

    def __getitem__(self, rows: Rows_contra, /) -> Any: ...


class StoredImages:
    """Images uint8 [N, H, W, C] of these keys, like an array: by a number, a slice, or an array of rows.

    Nothing of what was read stays in this process; the operating system keeps it where it has room. So files are not
    memory-mapped: Linux may map 2 MB of a file for each image that is touched.

    Args:
        shards: Where they are.
        keys: Their content keys, 32 hexadecimal digits each.

    Attributes:
        facts: What is known of each: FACTS [N].

    Raises:
        StepError: One is not there.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, shards: Shards, keys: list[str]) -> None:
        self.folder = shards.folder
        self.shape = (len(keys), *shards.shape)
        wanted = packed(keys)
        for left in range(_TRIES - 1, -1, -1):
            table = shards.table()
            rows = table.find(wanted)
            missing = int((rows < 0).sum())
            with suppress(FileNotFoundError):  # a clean-up moved the images between the two looks: look again
                if not missing:
                    self._open(table, rows)
                    break
            if not left:
                raise StepError(
                    f"{missing or len(keys)} images are not in {self.folder}: run again, which decodes them"
                )

    def _open(self, table: Table, rows: NDArray[np.int64]) -> None:
        self.facts = table.facts[rows]
        used, self._shard = np.unique(table.shard[rows], return_inverse=True)
        self._place = table.place[rows]
        self._checked = np.zeros(len(rows), bool)
        self._names = [table.shards[number] for number in used]
        self._files = [(self.folder / f"{name}{PIXELS}").open("rb") for name in self._names]
        for file in self._files:
            with suppress(OSError):  # where there are locks, this keeps a clean-up from the file
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: "int | slice | NDArray[Any]", /) -> NDArray[np.uint8]:
        if isinstance(rows, int | np.integer):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} of {len(self)}")
            one: NDArray[np.uint8] = self[np.array([int(rows) % len(self)])][0]
            return one
        chosen = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else _numbers(rows, len(self))
        found = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        pixels, size = found.reshape(-1).data, int(np.prod(self.shape[1:]))
        for number, row in enumerate(chosen.tolist()):
            file, image = self._files[self._shard[row]], pixels[number * size : (number + 1) * size]
            if os.preadv(file.fileno(), [image], int(self._place[row]) * size) < size:
                raise self._changed(row)
        for row in np.flatnonzero(~self._checked[chosen]):
            self._check(int(chosen[row]), found[row])
        return found

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        pieces = (slice(start, start + _ITERATED) for start in range(0, len(self), _ITERATED))
        return (image for piece in pieces for image in self[piece])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:] if dtype is None else self[:].astype(dtype)

    def _check(self, row: int, image: NDArray[np.uint8]) -> None:
        if zlib.crc32(image.data) != self.facts["checksum"][row]:
            raise self._changed(row)
        self._checked[row] = True

    def _changed(self, row: int) -> StepError:
        path = self.folder / self._names[self._shard[row]]
        return StepError(f"{path}{PIXELS} was changed after it was made: delete it and {path.name}{ROWS} and run again")


def _numbers(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Rows as NumPy takes them, numbers or a mask, as numbers from 0 on."""
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    numbers: NDArray[np.int64] = np.where(rows < 0, rows + count, rows).astype(np.int64)
    return numbers


def read_ahead(images: ByRows[Rows], pieces: Iterable[Rows]) -> Iterator[Any]:
    """Pieces of images, in order, the next of which are read in other threads while one is used.

    Args:
        images: What is read by rows.
        pieces: The rows of each piece, as `images` takes them.

    Yields:
        The images of each.
    """
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="read") as pool:
        waiting: deque[Future[Any]] = deque()
        try:
            for rows in pieces:
                waiting.append(pool.submit(images.__getitem__, rows))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def shards_of(folder: Path) -> Shards:
    """The shards in a folder, whose name begins with the shape of its images: `28x28x1-…`."""
    height, width, channels = map(int, folder.name.partition("-")[0].split("x"))
    return Shards(folder, (height, width, channels))
