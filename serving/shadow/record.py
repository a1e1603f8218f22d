"""Writes what came of shadowing to the deploy volume: the pointer, and a line of the journal with the figures.

The pointer then names the version that passed, without what it says of shadowing; or the version before again.
"""

import fcntl
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import ProjectError
from contract.files import replace as replace_file
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
        replace_file(record_path(volume, record.version), io.BytesIO(as_file(record)))
        replace_file(pointer_path(volume), io.BytesIO(as_file(Pointer.to(record, pointer.rolled_back))))
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
