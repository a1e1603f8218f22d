"""The collected images that wait for a label, the most useful first: reads the store of collected images.

All records are read once. Afterwards a look lists only the folders of the store that changed, so an answer costs the
same with ten images and with ten thousand.
"""

import threading
import time
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from contract.loop import collected
from contract.loop.collected import NEAR, RANDOM, UNKNOWN, Collected
from contract.loop.labels import Action, Before, Line
from contract.loop.listing import Listing
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import Book, Given

SKIPPED = "skipped"
QUEUES = (UNKNOWN, NEAR, RANDOM, SKIPPED)
_LOOK_SECONDS = 2.0  # from one look at the store to the next

_Place = tuple[float, float, str]


class Queue:
    """The collected images of a store.

    Args:
        folder: The store.
        book: Where decisions are written.
    """

    def __init__(self, folder: Path, book: Book) -> None:
        self._folder, self._book = folder, book
        self._served: str | None = None
        self._records: dict[str, Collected] = {}
        self._shards: dict[str, set[str]] = {}  # the digests in each folder of the store
        self._listing = Listing(folder)
        self._waiting: dict[str, list[_Place]] = {}  # by list, and by `=<answer>`; in order
        self._places: dict[str, dict[str, _Place]] = {}  # of an image, by list
        self._random: dict[str, list[tuple[str, str]]] = {}  # by version, the images drawn at random by time
        self._looked = 0.0
        self._lock = threading.RLock()
        self.look()

    def look(self) -> None:
        """Learn what the server collected and others decided meanwhile; not more often than every two seconds."""
        with self._lock:
            if self._looked and time.monotonic() - self._looked < _LOOK_SECONDS:
                return
            self._looked = time.monotonic()
            for shard, there in self._listing.changed():
                self._learn(shard, there)
            self._take(self._book.catch_up())

    def counts(self) -> dict[str, int]:
        """How many images wait in each list."""
        with self._lock:
            return {name: len(self._waiting.get(name, ())) for name in QUEUES}

    def answers(self) -> dict[str, int]:
        """How many images with each answer wait."""
        with self._lock:
            found = {name[1:]: len(those) for name, those in self._waiting.items() if name.startswith("=") and those}
        return dict(sorted(found.items()))

    def first(self, queue: str, count: int) -> list[Collected]:
        """The first images of a list."""
        return self._first(queue, count)

    def answered(self, label: str, count: int) -> list[Collected]:
        """The images with this answer, the surest first."""
        return self._first(f"={label}", count)

    def record(self, digest: str) -> Collected:
        """What is known of an image.

        Args:
            digest: Of the image.

        Returns:
            Its record.

        Raises:
            LabelError: It is not there any more.
        """
        with self._lock:
            found = self._records.get(digest)
        if found is None:
            raise LabelError("the image is not in the store of collected images any more")
        return found

    def image(self, digest: str) -> bytes:
        """The bytes of an image, as they were sent.

        Args:
            digest: Of the image.

        Returns:
            The bytes.

        Raises:
            LabelError: It is not there any more.
        """
        found = collected.read_image(self._folder, self.record(digest).digest)
        if found is None:
            raise LabelError("the image is not in the store of collected images any more")
        return found

    def label(self, digests: Sequence[str], label: str, part: str, queue: str) -> list[Line]:
        """Give images a label: all or none; the errors are those of `Book.label`."""
        with self._lock:
            given = [self._given(digest, queue) for digest in dict.fromkeys(digests)]
            lines = self._book.label(given, label, part, self._passing(digests))
            self._take(digests)
            return lines

    def note(self, digest: str, action: Action, queue: str) -> list[Line]:
        """Note that an image is of no class, or skipped; LabelError if it is not there any more."""
        with self._lock:
            line = self._book.note(self._given(digest, queue), action, self._passing([digest]))
            self._take([digest])
            return [line]

    def undo(self, ids: Sequence[str]) -> list[Line]:
        """Take decisions back: all or none; the errors are those of `Book.undo`."""
        with self._lock:
            lines = self._book.undo(ids)
            self._take(line.digest for line in lines)
            return lines

    def serve(self, version: str | None) -> None:
        """Show random images that this version answered before those of others."""
        with self._lock:
            if version != self._served:
                self._served = version
                self._take(list(self._records))

    def _first(self, name: str, count: int) -> list[Collected]:
        with self._lock:
            return [self._records[digest] for *_, digest in self._waiting.get(name, [])[:count]]

    def _given(self, digest: str, queue: str) -> Given:
        record = self.record(digest)
        before = Before(record.label, record.version, record.distance)
        return Given(digest, self.image(digest), record.polarity, before, record.random, queue)

    def _learn(self, shard: str, there: set[str]) -> None:
        """Read the records of a folder of the store."""
        for digest in self._shards.get(shard, set()) - there:
            self._remove(digest)
        self._shards[shard] = there
        for digest in there:
            record = collected.read(self._folder, digest)
            if record and record != self._records.get(digest):
                self._remove(digest)
                self._add(record)

    def _add(self, record: Collected) -> None:
        self._records[record.digest] = record
        if record.random:
            insort(self._random.setdefault(record.version, []), (record.time, record.digest))
        self._take([record.digest])

    def _remove(self, digest: str) -> None:
        record = self._records.pop(digest, None)
        if record is None:
            return
        self._put(digest, {})
        if record.random:
            self._random[record.version].remove((record.time, record.digest))

    def _take(self, digests: Iterable[str]) -> None:
        """Put images into the lists in which they wait, and out of the others."""
        for digest in digests:
            if record := self._records.get(digest):
                self._put(digest, dict(self._lists(record)))

    def _lists(self, record: Collected) -> Iterator[tuple[str, _Place]]:
        """The lists in which an image waits, with its place there."""
        age = -_seconds(record.time)
        line = self._book.labels.of(record.digest)
        if line and line.action is Action.SKIP:
            yield SKIPPED, (age, 0.0, record.digest)
        elif self._book.is_open(record.digest):
            if record.reason == UNKNOWN:
                yield UNKNOWN, (age, 0.0, record.digest)
            elif record.reason == NEAR:
                yield NEAR, (_margin(record), age, record.digest)
            if record.random:  # by time: what was drawn first is decided first, so that it can count
                yield RANDOM, (float(record.version != self._served), -age, record.digest)
            yield f"={record.label}", (record.distance or 0.0, age, record.digest)

    def _put(self, digest: str, places: dict[str, _Place]) -> None:
        before = self._places.pop(digest, {})
        for name, place in before.items():
            if places.get(name) != place:
                those = self._waiting[name]
                del those[bisect_left(those, place)]
        for name, place in places.items():
            if before.get(name) != place:
                insort(self._waiting.setdefault(name, []), place)
        if places:
            self._places[digest] = places

    def _passing(self, deciding: Iterable[str]) -> list[str]:
        """The images that count from now on, once these are decided: as far as no image drawn earlier is left."""
        now, labels, found = set(deciding), self._book.labels, list[str]()
        for version in {self._records[digest].version for digest in now if digest in self._records}:
            for _, digest in self._random.get(version, ()):
                if digest not in now and labels.of(digest) is None:
                    break
                if not labels.has_passed(digest):
                    found.append(digest)
        return found


def _margin(record: Collected) -> float:
    """How near an image is to being unknown: the least part of a threshold that its distance is away from it."""
    pairs = ((record.distance, record.threshold), (record.features_distance, record.features_threshold))
    margins = [abs(limit - found) / limit for found, limit in pairs if found is not None and limit]
    return min(margins, default=1.0)


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
