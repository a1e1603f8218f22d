"""What networks made of images before: reads and writes `<model volume>/vectors/<name>.sqlite`, a file for each.

It decides no result. It may be deleted at any time. SQLite's journal survives kills, its locks let two runs write at
once, and each row has a checksum; where it cannot be read or written, everything is embedded anew.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from contract.events import Warned, emit
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest, file_sha256
from steps.common.models.contents import NETWORK_FILES
from steps.common.usage import stamp
from steps.common.volumes import model_volume

FOLDER = "vectors"
_DECIDE = ("steps.common.models.embedding", "steps.common.images.decode", "steps.common.images.content_key")
_TABLE = (
    "CREATE TABLE IF NOT EXISTS vectors "
    "(key TEXT PRIMARY KEY, embedding BLOB NOT NULL, features BLOB NOT NULL, checksum INTEGER NOT NULL)"
)
_QUERY = "SELECT key, embedding, features, checksum FROM vectors WHERE key IN (SELECT value FROM json_each(?))"
_WAIT_SECONDS = 60.0  # for another run that is writing
_ASKED_AT_ONCE = 512  # keys in a query
_Failure = (sqlite3.Error, OSError)

Pair = tuple[bytes, bytes]  # an image's embedding and its features


class Vectors:
    """Embeddings and features of images, as bytes; none if the file is damaged or out of reach.

    Args:
        path: The file.
        keys: The content keys of the images.

    Attributes:
        known: Which of them the file has, bool [N]: it says so by their keys alone, and may have damaged ones.
    """

    def __init__(self, path: Path, keys: Sequence[str]) -> None:
        self._path, self._keys = path, keys
        self._file: sqlite3.Connection | None = None
        self.known = np.zeros(len(keys), bool)
        with self._mended():
            self._open()

    def take(self, rows: Iterable[int]) -> dict[int, Pair]:
        """What is here, undamaged, of these rows, in their order."""
        found: dict[int, Pair] = {}
        known = [int(row) for row in rows if self.known[row]]
        with self._mended():
            for start in range(0, len(known), _ASKED_AT_ONCE):
                some = known[start : start + _ASKED_AT_ONCE]
                pairs = self._found([self._keys[row] for row in some])
                found |= {row: pairs[self._keys[row]] for row in some if self._keys[row] in pairs}
        return found

    def add(self, pairs: Mapping[int, Pair]) -> None:
        """Keep what new rows have for later runs."""
        if self._file is None:
            return
        with self._mended():
            _write(self._file, ((self._keys[row], *pair) for row, pair in pairs.items()))
            self.known[list(pairs)] = True

    def forget(self) -> None:
        """Regard none as known; what is added then replaces what the file has."""
        self.known[:] = False

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        """Open the file, and see which keys it has: what it has of them is read when it is asked for."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
        self._file.execute(_TABLE)
        stamp(self._path)  # what is used stays, also if nothing is added
        held = {key for (key,) in self._file.execute("SELECT key FROM vectors")}
        self.known[:] = [key in held for key in self._keys]

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Replace the file by an empty one if it turns out to be damaged; do without it if it is out of reach."""
        try:
            try:
                yield
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # out of reach, which is no damage
                    raise
                self.close()
                for damaged in (self._path, self._path.with_name(f"{self._path.name}-journal")):
                    damaged.unlink(missing_ok=True)
                self._open()
        except _Failure as error:
            emit(Warned(f"embeddings are not kept for later runs ({error})"))
            self.close()
            self.forget()

    def _found(self, keys: Sequence[str]) -> dict[str, Pair]:
        if self._file is None:
            return {}
        lines = self._file.execute(_QUERY, [json.dumps(keys)])
        return {line[0]: line[1:3] for line in lines if _checksum(*line[:3]) == line[3]}


def name(network: Path, shape: Sequence[int], processor: str) -> str:
    """The name of the file: it follows from all that decides an embedding beside the image.

    Args:
        network: The folder of the network, whose contents count, not its id.
        shape: Height, width and channels of the images.
        processor: What computes.

    Returns:
        The name, without its suffix.
    """
    files = {file: file_sha256(network / file) for file in NETWORK_FILES}
    code = deciding_code(*_DECIDE)
    return digest([files, list(shape), code.digest, code.libraries, processor])


@contextmanager
def opened(name: str, keys: Sequence[str]) -> Iterator[Vectors]:
    """What is kept under a name for these content keys; nothing if the file is damaged or out of reach."""
    with closing(Vectors(model_volume() / FOLDER / f"{name}.sqlite", keys)) as vectors:
        yield vectors


def _write(file: sqlite3.Connection, lines: Iterable[tuple[str, bytes, bytes]]) -> None:
    with file:
        rows = ((*line, _checksum(*line)) for line in lines)
        file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)


def _checksum(key: str, embedding: bytes, features: bytes) -> int:
    return zlib.crc32(features, zlib.crc32(embedding, zlib.crc32(key.encode())))
