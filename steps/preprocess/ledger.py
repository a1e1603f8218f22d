"""Remembers draws: reads and appends to `<data volume>/splits/<draw>.txt`, a line `<key> <split>` for each image.

The file only grows; the first line of a key counts. A line that a crash tore has no end and is left out. The draw's
name is the digest of the settings that decide it, so changed settings begin a new file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from steps.common.files import sync, writing

_LINE = re.compile(r"^([0-9a-f]+) (train|validation|test)$")


class Ledger:
    """The draws remembered under one name."""

    def __init__(self, folder: Path, draw: str) -> None:
        self._path = folder / f"{draw}.txt"

    @property
    def exists(self) -> bool:
        """Whether anything was drawn under this name yet."""
        return self._path.exists()

    def read(self) -> dict[str, str]:
        """The split of each key that was ever drawn."""
        try:
            text = self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return {}
        found: dict[str, str] = {}
        for line in text.split("\n")[:-1]:
            if match := _LINE.match(line):
                found.setdefault(match[1], match[2])
        return found

    def append(self, drawn: Mapping[str, str]) -> None:
        """Add keys with their splits, synced to disk before this returns; StepError if the volume cannot be written."""
        if not drawn:
            return
        text = "".join(f"{key} {split}\n" for key, split in sorted(drawn.items())).encode()
        with writing(self._path.parent):
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(handle).st_size
                torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
                _write(handle, b"\n" + text if torn else text)
                os.fsync(handle)
            finally:
                os.close(handle)
            sync(self._path.parent)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one run at a time read, draw and append."""
        from filelock import FileLock

        with writing(self._path.parent), FileLock(self._path.with_suffix(".lock")):
            yield


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
