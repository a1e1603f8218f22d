"""Writes files so that a crash leaves the old bytes or the new ones: by rename, or at the end; synced to disk."""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO


def replace(path: Path, source: BinaryIO) -> None:
    """Replace a file by rename, synced: a reader sees the old bytes or the new ones.

    Args:
        path: The file.
        source: The new bytes.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync(path.parent)


def append(path: Path, lines: bytes) -> None:
    """Append whole lines to a file, synced; they begin a new line if a crash tore the last one.

    Args:
        path: The file, made if it is not there.
        lines: The lines, each with its end.
    """
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        left = b"\n" + lines if torn else lines
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_text(path: Path) -> str:
    """The text of a file that others replace; on NFS it may become stale while it is read, and is opened again.

    Args:
        path: The file.

    Returns:
        Its text.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return path.read_text()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return path.read_text()
