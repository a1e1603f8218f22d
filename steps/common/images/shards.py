"""The decoded images of one format, kept once each: reads and appends to `<data volume>/pixels/<format>/`.

`<shard>.pixels` holds images of a fixed size one after the other, and is read by rows; `<shard>.rows` holds a record
for each: its facts and a checksum of the record. Pixels are on disk before their records are written, so a killed run
leaves pixels that nobody knows, which the next one writes over. One run at a time appends, to the last shard. Where no
lock keeps the runs of all nodes apart, each begins a shard of its own. Where several are to append at once, each is
another writer: it has shards of its own, whose names end with its name, and a lock of its own. No split names what they
append before all have done so: until then, and for a day at most, a file `.held` keeps a clean-up from the folder.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.files import sync
from steps.common.files import writing
from steps.common.images.facts import FACTS
from steps.common.locks import held

PIXELS, ROWS = ".pixels", ".rows"
RECORD = np.dtype([("facts", FACTS), ("check", "<u4")])
_SHARD_BYTES = 1 << 30
_HELD = ".held"
_HELD_SECONDS = 24 * 3600
_ODD = np.random.default_rng(0).integers(0, 1 << 31, FACTS.itemsize // 4, dtype=np.uint32) * 2 + 1


class Keys:
    """Content keys V16 [N], among which others are found."""

    def __init__(self, keys: NDArray[np.void]) -> None:
        self._halves = _halves(keys)
        self._order = np.argsort(self._halves[:, 0], kind="stable")
        self._firsts = self._halves[self._order, 0]

    def find(self, keys: NDArray[np.void]) -> NDArray[np.int64]:
        """The number int64 [M] of each of these keys V16 [M]; -1 for one that is not here."""
        found = np.full(len(keys), -1, np.int64)
        wanted = _halves(keys)
        at = np.searchsorted(self._firsts, wanted[:, 0])
        left = np.arange(len(keys))
        while len(left):
            left = left[at[left] < len(self._firsts)]
            left = left[self._firsts[at[left]] == wanted[left, 0]]
            rows = self._order[at[left]]
            same = self._halves[rows, 1] == wanted[left, 1]
            found[left[same]] = rows[same]
            left = left[~same]
            at[left] += 1
        return found


@dataclass
class Table:
    """All rows of a folder: their facts, the number of the shard in `shards`, and the place there."""

    shards: list[str]
    facts: NDArray[Any]
    shard: NDArray[np.int32]
    place: NDArray[np.int64]
    _keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self._keys = Keys(self.facts["key"])

    def find(self, keys: NDArray[np.void]) -> NDArray[np.int64]:
        """The row int64 [N] of each key V16 [N]; -1 for one that is not here."""
        return self._keys.find(keys)


class Shards:
    """The images of one format.

    Args:
        folder: Where they are.
        shape: Height, width and channels of an image.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.folder = folder
        self.shape = shape
        self.row_bytes = int(np.prod(shape))

    def table(self) -> Table:
        """Every row whose record is whole and whose pixels are there."""
        names = sorted(path.stem for path in self.folder.glob(f"*{ROWS}"))
        parts: list[NDArray[Any]] = []
        shard: list[NDArray[np.int32]] = []
        place: list[NDArray[np.int64]] = []
        for number, name in enumerate(names):
            facts, at = self.rows(name)
            parts.append(facts)
            shard.append(np.full(len(at), number, np.int32))
            place.append(at)
        return Table(
            names,
            np.concatenate([np.empty(0, FACTS), *parts]),
            np.concatenate([np.empty(0, np.int32), *shard]),
            np.concatenate([np.empty(0, np.int64), *place]),
        )

    def files(self) -> list[Path]:
        """All files of the shards."""
        return sorted(path for path in self.folder.glob("[!.]*") if path.suffix in (PIXELS, ROWS))

    def rows(self, shard: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The facts of a shard's sound rows, FACTS [N], and their places int64 [N]; none if the shard is gone."""
        try:
            data = (self.folder / f"{shard}{ROWS}").read_bytes()
            size = (self.folder / f"{shard}{PIXELS}").stat().st_size
        except FileNotFoundError:
            data, size = b"", 0
        records = np.frombuffer(data, RECORD, min(len(data) // RECORD.itemsize, size // self.row_bytes))
        sound = np.flatnonzero(records["check"] == _checks(records["facts"]))
        return records["facts"][sound], sound

    def hold(self) -> None:
        """Keep a clean-up from the rows that no split names yet, for a day from now."""
        (self.folder / _HELD).touch()

    def release(self) -> None:
        """Let a clean-up see to them again."""
        (self.folder / _HELD).unlink(missing_ok=True)

    @property
    def is_held(self) -> bool:
        """Whether rows are held that no split names yet."""
        try:
            return (self.folder / _HELD).stat().st_mtime > time.time() - _HELD_SECONDS
        except FileNotFoundError:
            return False

    @contextmanager
    def appending(self, writer: str = "") -> Iterator["Appender"]:
        """Append to the shards, while no other run does as the same writer.

        Args:
            writer: A name without `-`; that of others who append at the same time is another.

        Yields:
            What takes images.

        Raises:
            StepError: The volume is full or cannot be written.
        """
        with self.alone(writer) as locked:
            appender = Appender(self, may_append=locked, writer=writer)
            try:
                yield appender
            finally:
                appender.close()

    @contextmanager
    def beginning(self) -> Iterator["Appender"]:
        """Write a new shard, which no other run appends to.

        Yields:
            What takes images.
        """
        appender = Appender(self, may_append=False)
        try:
            yield appender
        finally:
            appender.close()

    @contextmanager
    def alone(self, writer: str = "") -> Iterator[bool]:
        """Wait until no other run appends as this writer, and keep others from it.

        Args:
            writer: As for `appending`.

        Yields:
            Whether the lock holds on every node; else others may append beside this run.

        Raises:
            StepError: The volume is full or cannot be written.
        """
        with writing(self.folder):
            path = self.folder / (f".{writer}.lock" if writer else ".lock")
            with held(path, "another run is decoding images") as locked:
                yield locked


class Appender:
    """Appends images to the last shard of a writer, or to a new one where that is full or cannot be locked."""

    def __init__(self, shards: Shards, *, may_append: bool, writer: str = "") -> None:
        self._shards = shards
        self._may_append = may_append
        self._writer = writer
        self._pixels = self._rows = -1
        self._count = 0

    def append(self, facts: NDArray[Any], images: NDArray[np.uint8]) -> None:
        """Add images, and bring them to disk before this returns.

        Args:
            facts: FACTS [N].
            images: uint8 [N, H, W, C].
        """
        done = 0
        while done < len(images):
            most = max(1, _SHARD_BYTES // self._shards.row_bytes)
            if self._pixels < 0 or self._count >= most:
                self.close()
                self._open(most)
            piece = slice(done, done + most - self._count)
            done += self._add(facts[piece], images[piece])

    def close(self) -> None:
        """Close the files."""
        for handle in (self._pixels, self._rows):
            if handle >= 0:
                os.close(handle)
        self._pixels = self._rows = -1

    def _open(self, most: int) -> None:
        folder = self._shards.folder
        names = sorted(path.stem for path in folder.glob(f"*{ROWS}"))
        own = [name for name in names if _writer(name) == self._writer]
        last = folder / f"{own[-1]}{ROWS}" if own and self._may_append else None
        if last and last.stat().st_size < most * RECORD.itemsize and last.with_suffix(PIXELS).exists():
            path = last
        else:
            number = 1 + max((int(name.partition("-")[0]) for name in names), default=0)
            end = f"-{self._writer}" if self._writer else ""
            path = folder / f"{number:06d}-{secrets.token_hex(4)}{end}{ROWS}"
        self._pixels = os.open(path.with_suffix(PIXELS), os.O_RDWR | os.O_CREAT, 0o644)
        self._rows = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        # What a crash tore is written over: a record at the end, or one whose pixels were lost.
        whole = os.fstat(self._pixels).st_size // self._shards.row_bytes
        self._count = min(os.fstat(self._rows).st_size // RECORD.itemsize, whole)
        sync(folder)

    def _add(self, facts: NDArray[Any], images: NDArray[np.uint8]) -> int:
        records = np.zeros(len(images), RECORD)
        records["facts"], records["check"] = facts, _checks(facts)
        _write(self._pixels, np.ascontiguousarray(images).data.cast("B"), self._count * self._shards.row_bytes)
        os.fsync(self._pixels)
        _write(self._rows, memoryview(records.tobytes()), self._count * RECORD.itemsize)
        os.fsync(self._rows)
        self._count += len(images)
        if self._writer:
            self._shards.hold()
        return len(images)


def _writer(shard: str) -> str:
    """The writer that a shard belongs to."""
    return shard.split("-", 2)[2] if shard.count("-") > 1 else ""


def _write(handle: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def _halves(keys: NDArray[np.void]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view(np.uint64).reshape(-1, 2)


def _checks(facts: NDArray[Any]) -> NDArray[np.uint32]:
    """A checksum of each record; not 0 for zeros, which is what a crash of the machine may leave."""
    words = np.ascontiguousarray(facts).view(np.uint32).reshape(len(facts), FACTS.itemsize // 4)
    found: NDArray[np.uint32] = (words * _ODD).sum(1, dtype=np.uint32) + np.uint32(0x5EED)
    return found
