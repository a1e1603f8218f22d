"""Lists the store of collected images again and again: reads only the folders that changed."""

import time
from collections.abc import Iterator
from pathlib import Path

from contract.loop import collected

_SETTLED_NS = (
    2_000_000_000  # a folder that changed this lately may change again without another time of its last change
)


class Listing:
    """What a store held when it was looked at last.

    Args:
        folder: The store.

    Attributes:
        seen: The time of its last change that each of its folders had when it was listed, in nanoseconds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: dict[str, int] = {}

    def changed(self) -> Iterator[tuple[str, set[str]]]:
        """List the folders that changed since the last call, or are gone.

        Yields:
            Each with the digests of its images; it counts as listed once the next one is asked for.
        """
        for shard in {*collected.shards(self._folder), *self.seen}:
            try:
                changed = collected.shard_path(self._folder, shard).stat().st_mtime_ns
            except OSError:
                changed = 0
            if self.seen.get(shard) != changed:
                yield shard, set(collected.digests(self._folder, shard))
                self.seen[shard] = changed if time.time_ns() - changed > _SETTLED_NS else -1
