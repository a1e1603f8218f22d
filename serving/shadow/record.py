"""Writes what came of shadowing to the deploy volume: the pointer, and a line of the journal with the figures.

The pointer then names the version that passed, without what it says of shadowing; or the version before again.
"""

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import ProjectError
from contract.journal import Entry, Event, State, append
from contract.pointer import Pointer, Record, as_file, lock_path, pointer_path, record_path


class BusyError(ProjectError):
    """A run is changing what is served: ask again a second later."""


def write_verdict(volume: Path, version: str, before: str, *, passed: bool, reason: str) -> bool:
    """Write what came of shadowing, under the volume's lock.

    Args:
        volume: The deploy volume.
        version: The version that was shadowed.
        before: The version before.
        passed: Whether it may answer.
        reason: Why, with the figures.

    Returns:
        False if the pointer does not name the version any more, so there is nothing to write.

    Raises:
        BusyError: A run holds the lock.
        OSError: The volume cannot be written, as in a pod.
        ValueError: A file on it is damaged.
    """
    with _locked(volume):
        pointer = Pointer.parsed(json.loads(pointer_path(volume).read_text()))
        if pointer.version != version or not pointer.shadow:
            return False
        record = replace(pointer.record, shadow=None)
        if not passed:
            record = Record.parsed(json.loads(record_path(volume, before).read_text()))
        # The pointer first: if this process is killed in between, the next run tells of it in the journal.
        _replace(record_path(volume, record.version), as_file(record))
        _replace(pointer_path(volume), as_file(Pointer.to(record, pointer.rolled_back)))
        entry = Entry(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=f"serving@{socket.gethostname()}",
            state=State.ADOPTED,
            version=record.version,
            event=None if passed else Event.UNDONE,
            before=None if passed else version,
            reason=reason,
            record=record,
            rolled_back=pointer.rolled_back,
        )
        append(volume, entry)
    return True


@contextmanager
def _locked(volume: Path) -> Iterator[None]:
    handle = os.open(lock_path(volume), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError from error
        yield
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    """Replace a file by rename, synced."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
