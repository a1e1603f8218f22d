"""Which artefacts are in use: stamps and a lock on each volume, so that `make gc` deletes nothing that a run needs.

The stamp of an artefact is the modification time of its manifest, which each step renews when it uses the artefact. It
does that under the shared lock of the volume, and looks under the same lock whether the artefact is there. `gc` holds
the exclusive lock while it reads a stamp again and moves the artefact away. So a step either finds the artefact, with a
stamp that keeps it, or finds none and makes it anew.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from contract.mounts import locks_end_at_the_node
from steps.common.errors import StepError

LOCK = ".usage.lock"


@contextmanager
def shared(volume: Path) -> Iterator[None]:
    """Keep `gc` from deleting on this volume; without effect where locks are lacking, as `gc` refuses there.

    Yields:
        Nothing.
    """
    handle = _opened(volume)
    try:
        if handle is not None:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def exclusive(volume: Path) -> Iterator[None]:
    """Keep steps from using what is on this volume until the end of the context; wait for those that are about to.

    Yields:
        Nothing.

    Raises:
        StepError: Locks are lacking, or end at this node; or the volume cannot be written.
    """
    try:
        handle = os.open(volume / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StepError(f"{volume} cannot be written ({error.strerror}): run gc as the user of the steps") from error
    try:
        why = "those of its mount end at this node" if locks_end_at_the_node(volume) else _lock(handle)
        if why:
            raise StepError(
                f"the file system of {volume} has no locks that hold on every node ({why}), so that gc cannot know "
                "what a run is about to use: mount it with locks, and run gc again"
            )
        yield
    finally:
        os.close(handle)


def stamp(path: Path) -> None:
    """Renew the stamp of an artefact, by its manifest, or of another file; without effect on a read-only volume."""
    with suppress(OSError):
        os.utime(path)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of this file; False if there is no file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _lock(handle: int) -> str:
    """Take the exclusive lock of a file; the reason if it cannot be taken."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        return str(error.strerror)
    return ""


def _opened(volume: Path) -> int | None:
    """The volume's lock file; None if there is no volume, or this process may not open the file."""
    try:
        return os.open(volume / LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError:
        return None
