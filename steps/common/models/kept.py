"""What networks made of images before: reads and writes `<model volume>/vectors/<name>.sqlite`, a file for each.

It decides no result. It may be deleted at any time. SQLite's journal survives kills, its locks let two runs write at
once, and each row has a checksum; where it cannot be read or written, everything is embedded anew.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
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
_WAIT_SECONDS = 60.0  # for another run that is writing
_Failure = (sqlite3.Error, OSError)

Pair = tuple[bytes, bytes]  # an image's embedding and its features


class Vectors:
    """Embeddings and features of the images of these content keys, as bytes.

    Attributes:
        known: Which of them are here, bool [N].
    """

    def __init__(self, keys: Sequence[str], file: sqlite3.Connection | None) -> None:
        self._keys, self._file = keys, file
        self.known = np.zeros(len(keys), bool)

    def look(self) -> None:
        """See what the file has, undamaged; sqlite3.Error if it cannot be read."""
        for row in range(len(self._keys)):
            self.known[row] = self._found(row) is not None

    def take(self, rows: Iterable[int]) -> dict[int, Pair]:
        """What is here of these rows."""
        try:
            found = ((int(row), self._found(row)) for row in rows if self.known[row])
            return {row: pair for row, pair in found if pair}
        except _Failure as error:
            _say(error)
            return {}

    def add(self, pairs: Mapping[int, Pair]) -> None:
        """Keep what new rows have for later runs."""
        if self._file is None:
            return
        try:
            _write(self._file, ((self._keys[row], *pair) for row, pair in pairs.items()))
            self.known[list(pairs)] = True
        except _Failure as error:
            _say(error)
            self._file = None
            self.forget()

    def forget(self) -> None:
        """Regard none as known; what is added then replaces what the file has."""
        self.known[:] = False

    def _found(self, row: int) -> Pair | None:
        if self._file is None:
            return None
        key = self._keys[row]
        found = self._file.execute("SELECT embedding, features, checksum FROM vectors WHERE key = ?", (key,)).fetchone()
        return found[:2] if found and _checksum(key, *found[:2]) == found[2] else None


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
    path = model_volume() / FOLDER / f"{name}.sqlite"
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(path, timeout=_WAIT_SECONDS)
        except _Failure as error:
            _say(error)
            break
        with closing(file):
            vectors = Vectors(keys, file)
            try:
                file.execute(_TABLE)
                stamp(path)  # what is used stays, also if nothing is added
                vectors.look()
            except sqlite3.OperationalError as error:  # out of reach, which is no damage
                _say(error)
                break
            except sqlite3.DatabaseError:
                for damaged in (path, path.with_name(f"{path.name}-journal")):
                    with suppress(OSError):
                        damaged.unlink(missing_ok=True)
                continue
            yield vectors
            return
    yield Vectors(keys, None)


def _write(file: sqlite3.Connection, lines: Iterable[tuple[str, bytes, bytes]]) -> None:
    with file:
        rows = ((*line, _checksum(*line)) for line in lines)
        file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)


def _checksum(key: str, embedding: bytes, features: bytes) -> int:
    return zlib.crc32(features, zlib.crc32(embedding, zlib.crc32(key.encode())))


def _say(error: Exception) -> None:
    emit(Warned(f"embeddings are not kept for later runs ({error})"))
