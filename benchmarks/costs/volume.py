"""Measures a volume as the steps use it: appends pixels, reads files through, reads single images; in a folder."""

import os
import time
from hashlib import blake2b
from pathlib import Path

import numpy as np

from benchmarks.costs.model import MB
from steps.common.images.facts import facts
from steps.common.images.shards import Shards
from steps.common.images.stored import StoredImages

_AT_ONCE_BYTES = 64 << 20  # as preprocess brings pixels to disk
_PIECE_BYTES = 8 << 20
_BATCH, _BATCHES = 128, 12


def appended(folder: Path, side: int, channels: int, size: int) -> tuple[list[str], float]:
    """Append made-up images to a store of pixels, each batch synced.

    Args:
        folder: The folder of the store.
        side: Pixels a side.
        channels: Channels.
        size: Bytes of all pixels.

    Returns:
        Their content keys, and MB a second.
    """
    shards = Shards(folder, (side, side, channels))
    images = np.random.default_rng(0).integers(0, 256, (_AT_ONCE_BYTES // shards.row_bytes, *shards.shape), np.uint8)
    numbers = range(size // shards.row_bytes)
    keys = [blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest() for number in numbers]
    seconds = 0.0
    with shards.appending() as appender:
        for start in range(0, len(keys), len(images)):
            some = images[: len(keys) - start]
            known = facts(keys[start : start + len(some)], some)
            began = time.perf_counter()
            appender.append(known, some)
            seconds += time.perf_counter() - began
    return keys, len(keys) * shards.row_bytes / MB / seconds


def read_through(folder: Path) -> float:
    """MB a second of reading the files of a folder from beginning to end, not from memory."""
    files = [path for path in folder.iterdir() if path.is_file()]
    _forget(folder)
    began = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(_PIECE_BYTES):
                pass
    return sum(path.stat().st_size for path in files) / MB / (time.perf_counter() - began)


def read_by_rows(folder: Path, side: int, channels: int, keys: list[str]) -> float:
    """Images a second of reading a store in random order, a batch at a time, not from memory."""
    _forget(folder)
    images = StoredImages(Shards(folder, (side, side, channels)), keys)
    rows = np.random.default_rng(1).permutation(len(images))[: _BATCH * _BATCHES]
    began = time.perf_counter()
    for start in range(0, len(rows), _BATCH):
        images[rows[start : start + _BATCH]]
    return len(rows) / (time.perf_counter() - began)


def _forget(folder: Path) -> None:
    """Take files out of the system's memory, where it allows that."""
    for path in folder.iterdir() if hasattr(os, "posix_fadvise") else ():
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
