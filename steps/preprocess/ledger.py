"""Remembers draws: reads and appends to `<data volume>/splits/<draw>.txt`, a line `<key> <split> <group>` for an image.

The file only grows. The first line of a key counts; `-` stands for the split of an image that was never drawn, such as
one that a source gives as a test image. A line that a crash tore has no end, and is left out. The draw's name is the
digest of the settings that decide it, so changed settings begin a new file.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from steps.common.files import sync, writing

NOT_DRAWN = "-"
_LINE = re.compile(r"^([0-9a-f]+) (train|validation|test|-) ([0-9a-f]+)$")


@dataclass
class Memory:
    """What was drawn: the split of each key, and the group of each key that was ever looked at."""

    splits: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def of_groups(self) -> dict[str, str]:
        """The first split that each group got."""
        found: dict[str, str] = {}
        for key, split in self.splits.items():
            found.setdefault(self.groups[key], split)
        return found


class Ledger:
    """The draws remembered under one name."""

    def __init__(self, folder: Path, draw: str) -> None:
        self.folder = folder
        self._path = folder / f"{draw}.txt"

    @property
    def exists(self) -> bool:
        """Whether anything was drawn under this name yet."""
        return self._path.exists()

    def read(self) -> Memory:
        """Read every line."""
        memory = Memory()
        try:
            text = self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return memory
        for line in text.split("\n")[:-1]:
            if match := _LINE.match(line):
                key, split, group = match.groups()
                memory.groups.setdefault(key, group)
                if split != NOT_DRAWN:
                    memory.splits.setdefault(key, split)
        return memory

    def remember(self, splits: Mapping[str, str], groups: Mapping[str, str]) -> None:
        """Append what is new of these, synced to disk before this returns.

        Args:
            splits: The split of each key that was drawn.
            groups: The group of each key, drawn or not.

        Raises:
            StepError: The volume is full or cannot be written.
        """
        known = self.read()
        new = sorted(key for key in groups if key not in known.groups or (key in splits and key not in known.splits))
        if not new:
            return
        text = "".join(f"{key} {splits.get(key, NOT_DRAWN)} {groups[key]}\n" for key in new).encode()
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
        """Let one run at a time read, draw and remember; on a file system without locks, as many as there are."""
        from filelock import FileLock

        with writing(self._path.parent):
            lock = FileLock(self._path.with_suffix(".lock"), fallback_to_soft=False)
            with suppress(OSError):
                lock.acquire()
            try:
                yield
            finally:
                lock.release()


def _write(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
