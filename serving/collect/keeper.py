"""Holds the store of collected images to its limits: reads records, and removes images. The workers write.

Other pods may write to the same store, and have keepers of their own. All choose alike, so they do not remove more.
"""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from pathlib import Path
from threading import Event, Thread
from typing import Self

from contract.loop import collected
from contract.loop.collected import REASONS, Collected
from contract.loop.collecting import Limits
from contract.loop.listing import Listing
from serving.log import Log

_SECONDS = 1.0  # from one look to the next; more if looking takes long, for a twentieth of the time at most
_PART = 20
_ROOM = 0.95  # of the limit, which is left after something had to go
_STRAY_SECONDS = 3600.0  # after which a file of a writer that was killed is removed; and from one such look to the next


class Keeper:
    """Watches a store in a thread, within a `with` block.

    What it knows of the store it learned by reading each record once: a look lists only folders that changed.

    Args:
        folder: The store.
        limits: Its limits.
        log: For messages.

    Attributes:
        folder: The store.
        limits: Its limits.
    """

    def __init__(self, folder: Path, limits: Limits, log: Log) -> None:
        self.folder, self.limits, self._log = folder, limits, log
        self._sizes: dict[str, dict[str, int]] = {}  # by folder and digest, what image and record take of the disk
        self._listing = Listing(folder)
        # Time and digest, the oldest first, for each reason. What was drawn at random is with the random ones.
        self._heaps: tuple[list[tuple[str, str]], ...] = tuple([] for _ in REASONS)
        self._bytes = 0
        self._swept = 0.0
        self._has_failed = False
        self._ended = Event()

    @property
    def for_workers(self) -> str:
        """What the workers need to know."""
        return self.limits.for_workers(self.folder)

    @property
    def bytes(self) -> int:
        """What the store takes of the disk, as of the last look."""
        return self._bytes

    def look(self) -> None:
        """Learn what is new, and remove what is too old or too much. It never raises."""
        now = time.time()
        try:
            for shard, found in self._listing.changed():
                self._learn(shard, found)
            if now - self._swept > _STRAY_SECONDS:
                self._sweep(now)
            self._remove(now)
        except Exception as error:  # the next look may succeed
            if not self._has_failed:
                self._has_failed = True
                self._log.announce(f"{self.folder} cannot be held to its limits: {error}", "ERROR")
        else:
            self._has_failed = False

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=_SECONDS)

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            began = time.monotonic()
            self.look()
            pause = max(_SECONDS, (time.monotonic() - began) * _PART)

    def _learn(self, shard: str, found: set[str]) -> None:
        """Learn what is new in a folder of the store, and what is gone."""
        known = self._sizes.setdefault(shard, {})
        for digest in known.keys() - found:
            self._bytes -= known.pop(digest)
        for digest in found - known.keys():
            if record := collected.read(self.folder, digest):
                known[digest] = record.disk_bytes
                self._bytes += record.disk_bytes
                self._push(record)

    def _push(self, record: Collected) -> None:
        heappush(self._heaps[_rank(record)], (record.time, record.digest))

    def _remove(self, now: float) -> None:
        oldest = (datetime.fromtimestamp(now, UTC) - timedelta(days=self.limits.max_days)).isoformat()
        goal = self.limits.max_bytes * (_ROOM if self._bytes > self.limits.max_bytes else 1)
        for rank, heap in enumerate(self._heaps):
            while heap and (heap[0][0] < oldest or self._bytes > goal):
                self._give_up(*heap[0], None if heap[0][0] < oldest else rank)
                heappop(heap)

    def _give_up(self, since: str, digest: str, rank: int | None) -> None:
        """Remove an image, unless there is a better reason for it than that of this rank; None: whatever the reason."""
        known = self._sizes[digest[:2]]
        record = collected.read(self.folder, digest)
        if digest not in known or (record and record.time != since):  # it is gone, or came again later
            return
        if record and rank == 0 and record.random and record.reason != REASONS[0]:
            # It stays for its reason. The random ones would else be no fair sample of the time when the others went.
            record = replace(record, random=False)
            collected.replace_record(self.folder, record)
        if record and rank is not None and _rank(record) > rank:
            self._push(record)
            return
        collected.remove(self.folder, digest)
        self._bytes -= known.pop(digest)

    def _sweep(self, now: float) -> None:
        self._swept = now
        for shard in collected.shards(self.folder):
            for path in collected.strays(self.folder, shard):
                with suppress(FileNotFoundError):
                    if now - path.stat().st_mtime > _STRAY_SECONDS:
                        path.unlink()


def _rank(record: Collected) -> int:
    """How much an image is worth; all that were drawn at random go together, to stay a fair sample."""
    return 0 if record.random else REASONS.index(record.reason)
