"""Remembers draws: reads and appends to `<data volume>/splits/<draw>.txt`, a line `<key> <split> <group>` for an image.

The file only grows. The first line of a key counts; `-` stands for the split of an image that was never drawn, such as
one that a source gives as a test image. A line that a crash tore has no end, and is left out. The draw's name is the
digest of the settings that decide it, so changed settings begin a new file.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from contract.files import append, sync
from steps.common.files import writing

NOT_DRAWN = "-"
_LINE = re.compile(r"^([0-9a-f]+) (train|validation|test|-) ([0-9a-f]+)\n$")


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
    """The draws remembered under one name, in the file `path`."""

    def __init__(self, folder: Path, draw: str) -> None:
        self.folder = folder
        self.path = folder / f"{draw}.txt"

    @property
    def exists(self) -> bool:
        """Whether anything was drawn under this name yet."""
        return self.path.exists()

    def read(self) -> Memory:
        """Read every line."""
        memory = Memory()
        try:
            with self.path.open(encoding="ascii", errors="replace", newline="\n") as lines:
                for line in lines:
                    if match := _LINE.match(line):
                        key, split, group = match.groups()
                        memory.groups.setdefault(key, key if group == key else group)
                        if split != NOT_DRAWN:
                            memory.splits.setdefault(key, sys.intern(split))
        except FileNotFoundError:
            pass
        return memory

    def remember(self, splits: Mapping[str, str], groups: Mapping[str, str], known: Memory | None = None) -> None:
        """Append what is new of these, synced to disk before this returns.

        Args:
            splits: The split of each key that was drawn.
            groups: The group of each key, drawn or not.
            known: What `read` gave; by default it is read again.

        Raises:
            StepError: The volume is full or cannot be written.
        """
        known = known or self.read()
        new = sorted(key for key in groups if key not in known.groups or (key in splits and key not in known.splits))
        if not new:
            return
        text = "".join(f"{key} {splits.get(key, NOT_DRAWN)} {groups[key]}\n" for key in new).encode()
        with writing(self.path.parent):
            append(self.path, text)
            sync(self.path.parent)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one run at a time read, draw and remember; on a file system without locks, as many as there are."""
        from filelock import FileLock

        with writing(self.path.parent):
            lock = FileLock(self.path.with_suffix(".lock"), fallback_to_soft=False)
            with suppress(OSError):
                lock.acquire()
            try:
                yield
            finally:
                lock.release()
