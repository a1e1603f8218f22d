"""Compares formats for the pixels of images: raw shards as this project keeps them, Arrow and LMDB.

Writes random images to a temporary folder. Arrow needs pyarrow and LMDB lmdb, which this project does not install.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.common.images.facts import facts
from steps.common.images.shards import Shards
from steps.common.images.stored import StoredImages

_SHAPES = {20_000: (28, 28, 1), 1_000: (224, 224, 3)}
_BATCH = 128
_BATCHES = 40
_ROUNDS = 3

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
Open = Callable[[], AbstractContextManager[Read]]


def measure() -> Iterator[str]:
    """Size, writing, and reading by rows in random order: cold, and from the system's memory.

    Yields:
        Lines of Markdown.
    """
    kinds = {"raw shards": _shards, "Arrow": _arrow, "LMDB": _lmdb}
    for kind, needed in (("Arrow", "pyarrow"), ("LMDB", "lmdb")):
        if find_spec(needed) is None:
            del kinds[kind]
            yield f"{kind} is left out: {needed} is not installed"
            yield ""
    yield "| random images | format | bytes / of pixels | write, images/s | read cold, images/s | warm, images/s |"
    yield "|---|---|--:|--:|--:|--:|"
    for count, shape in _SHAPES.items():
        images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
        for kind, write in kinds.items():
            row = [f"{count:,} of {' x '.join(map(str, shape))}", kind, *_figures(write, images)]
            yield f"| {' | '.join(row)} |"


def _figures(write: Callable[[Path, NDArray[np.uint8]], Open], images: NDArray[np.uint8]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="pixels-") as name:
        folder = Path(name)
        began = time.perf_counter()
        opened = write(folder, images)
        _to_disk(folder)
        written = time.perf_counter() - began
        size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        batches = np.random.default_rng(1).integers(0, len(images), (_BATCHES, _BATCH))
        with opened() as read:
            if not np.array_equal(read(batches[0]), images[batches[0]]):
                raise RuntimeError("other pixels are read than were written")
        del read  # what is mapped stays in memory
        cold: list[float] = []
        warm: list[float] = []
        for _ in range(_ROUNDS):
            _forget(folder)
            for seconds in (cold, warm):
                with opened() as read:
                    began = time.perf_counter()
                    for rows in batches:
                        read(rows)
                    seconds.append(time.perf_counter() - began)
                del read
    # The best, since other load only slows down.
    rates = [len(images) / written, batches.size / min(cold), batches.size / min(warm)]
    return [f"{size / images.nbytes:.2f}", *(f"{rate:,.0f}" for rate in rates)]


def _to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)


def _forget(folder: Path) -> None:
    """Take the files out of the system's memory, as far as nothing maps them."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _shards(folder: Path, images: NDArray[np.uint8]) -> Open:
    keys = [f"{row:032x}" for row in range(len(images))]
    height, width, channels = images.shape[1:]
    shards = Shards(folder, (height, width, channels))
    with shards.appending() as appender:
        appender.append(facts(keys, images), images)

    @contextmanager
    def opened() -> Iterator[Read]:
        yield StoredImages(shards, keys).__getitem__

    return opened


def _arrow(folder: Path, images: NDArray[np.uint8]) -> Open:
    arrow: Any = import_module("pyarrow")

    path, (count, *shape) = folder / "images.arrow", images.shape
    kind = arrow.binary(int(np.prod(shape)))
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_file(file, arrow.schema([("pixels", kind)])) as writer:
        pixels = arrow.FixedSizeBinaryArray.from_buffers(kind, count, [None, arrow.py_buffer(images)])
        writer.write_batch(arrow.record_batch([pixels], ["pixels"]))

    @contextmanager
    def opened() -> Iterator[Read]:
        column = arrow.ipc.open_file(arrow.memory_map(str(path))).read_all().column("pixels").chunk(0)
        mapped = np.frombuffer(column.buffers()[1], np.uint8).reshape(count, *shape)
        yield lambda rows: mapped[rows]

    return opened


def _lmdb(folder: Path, images: NDArray[np.uint8]) -> Open:
    lmdb: Any = import_module("lmdb")

    shape = images.shape[1:]
    size = 4 * images.nbytes + (64 << 20)
    with lmdb.open(str(folder), map_size=size) as database, database.begin(write=True) as transaction:
        for row, image in enumerate(images):
            transaction.put(row.to_bytes(16, "big"), image.tobytes(), append=True)

    @contextmanager
    def opened() -> Iterator[Read]:
        with lmdb.open(str(folder), readonly=True, lock=False, readahead=False) as database:

            def read(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
                with database.begin(buffers=True) as transaction:
                    found = [np.frombuffer(transaction.get(int(row).to_bytes(16, "big")), np.uint8) for row in rows]
                    return np.stack(found).reshape(-1, *shape)

            yield read

    return opened
