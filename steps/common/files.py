"""Writes files on a volume; errors of a full or read-only volume say what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from contract.files import replace
from steps.common.errors import StepError

_UMASK = 0o022  # Argo's is 0, and whoever is on the node could then change what a step has written
_FULL_BELOW_BYTES = 1 << 20  # libraries hide ENOSPC in errors of their own; this little free space gives it away


def write_atomically(path: Path, source: BinaryIO) -> None:
    """Replace a file by rename, synced: a reader sees the old bytes or the new ones.

    StepError if the volume is full or cannot be written.

    Args:
        path: The file.
        source: The new bytes.
    """
    with writing(path.parent):
        replace(path, source)


@contextmanager
def readable_by_all() -> Iterator[None]:
    """Let what is written within this context be read by everybody, and changed by its owner alone."""
    before = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder, and turn errors of a full or read-only volume into ones that say what to do.

    Args:
        folder: Where the work within this context writes.

    Yields:
        Nothing.

    Raises:
        StepError: The volume is full or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except StepError:
        raise
    except Exception as error:
        if reason := volume_trouble(error, folder):
            raise StepError(reason) from error
        raise


def volume_trouble(error: BaseException, folder: Path) -> str | None:
    """What to do about an error of a full or read-only volume; None for any other error."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and not isinstance(error, StepError) and _free_bytes(folder) < _FULL_BELOW_BYTES:
        number = errno.ENOSPC
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the volume of {folder}: free some space, or choose another volume, and run again"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return (
            f"cannot write {folder} as uid {os.getuid()} ({os.strerror(number)}): make it a folder that this user "
            "may write, or choose another volume, and run again"
        )
    return None


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
