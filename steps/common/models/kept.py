"""Embeddings that were made before: reads and writes `<model volume>/vectors/<name>.sqlite`, a file for each network.

It decides no result. It may be deleted at any time. SQLite's journal survives kills, its locks let two runs write at
once, and each row has a checksum; where it cannot be read or written, everything is embedded anew.
"""

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.events import Warned, emit
from steps.common.code import deciding_code
from steps.common.digest import digest, file_sha256
from steps.common.models.contents import NETWORK_FILES
from steps.common.volumes import model_volume

FOLDER = "vectors"
_DECIDE = ("steps.common.models.embedding", "steps.common.images.decode", "steps.common.images.content_key")
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL, checksum INTEGER NOT NULL)"
_WAIT_SECONDS = 60.0  # for another run that is writing
_Failure = (sqlite3.Error, OSError)


class Vectors:
    """Embeddings of the images of these content keys, in their order.

    Attributes:
        known: Which of them are here, bool [N].
    """

    def __init__(self, keys: Sequence[str], file: sqlite3.Connection | None) -> None:
        self._keys, self._file = keys, file
        self._vectors: NDArray[np.float32] | None = None
        self.known = np.zeros(len(keys), bool)

    def load(self) -> None:
        """Take what the file has; sqlite3.Error if it cannot be read."""
        if self._file is None:
            return
        for row, key in enumerate(self._keys):
            found = self._file.execute("SELECT vector, checksum FROM vectors WHERE key = ?", (key,)).fetchone()
            if found and _checksum(key, found[0]) == found[1]:
                self._put(np.array([row]), np.frombuffer(found[0], np.float32)[None])

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of these rows, float32 [n, D]."""
        return self.all()[rows]

    def all(self) -> NDArray[np.float32]:
        """All embeddings float32 [N, D]; those of rows that are not known mean nothing."""
        assert self._vectors is not None  # noqa: S101 - at least one was put
        return self._vectors

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take new embeddings float32 [n, D], and keep them for later runs."""
        self._put(rows, vectors)
        if self._file is None:
            return
        lines = ((self._keys[row], vector.tobytes()) for row, vector in zip(rows, vectors, strict=True))
        try:
            _write(self._file, lines)
        except _Failure as error:
            _say(error)
            self._file = None

    def forget(self) -> None:
        """Regard none as known; what is added then replaces what the file has."""
        self._vectors = None
        self.known[:] = False

    def _put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if self._vectors is None:
            self._vectors = np.zeros((len(self._keys), vectors.shape[1]), np.float32)
        if vectors.shape[1] == self._vectors.shape[1]:
            self._vectors[rows] = vectors
            self.known[rows] = True


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
    """The embeddings of these content keys that are kept under a name; none if the file is damaged or out of reach."""
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
                vectors.load()
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


def _write(file: sqlite3.Connection, lines: Iterable[tuple[str, bytes]]) -> None:
    with file:
        rows = ((key, vector, _checksum(key, vector)) for key, vector in lines)
        file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)


def _checksum(key: str, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(key.encode()))


def _say(error: Exception) -> None:
    emit(Warned(f"embeddings are not kept for later runs ({error})"))
