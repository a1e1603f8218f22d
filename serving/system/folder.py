"""Private folders for sockets and temporary files: where no cleaner removes them while they are used."""

import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

_FRESH_SECONDS = 3600.0  # cleaners remove what nobody has used for days


def private_folder(prefix: str, *, large: bool = False) -> Path:
    """Make a folder that only this user can enter, and keep its files' times fresh until this process ends.

    Args:
        prefix: The beginning of its name.
        large: Whether it will hold much: then it is never in $XDG_RUNTIME_DIR, which is memory.

    Returns:
        A folder in $XDG_RUNTIME_DIR, which no cleaner touches, or in the folder for temporary files.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or "/nonexistent")
    parent = runtime if not large and _is_usable(runtime) else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    Thread(target=_keep_fresh, args=(folder,), daemon=True).start()
    return folder


def allows_execution(folder: Path) -> bool:
    """Whether the folder's file system is mounted without noexec; a container's /tmp often has it."""
    try:
        return not os.statvfs(folder).f_flag & os.ST_NOEXEC
    except FileNotFoundError:
        return True


def refresh(folder: Path) -> None:
    """Set the times of a folder and of all that is in it to now."""
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):  # it ended meanwhile, or a disk is full
            os.utime(path, follow_symlinks=False)


def _is_usable(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return ours and os.access(folder, os.W_OK | os.X_OK) and allows_execution(folder)


def _keep_fresh(folder: Path) -> None:
    while folder.exists():
        refresh(folder)
        time.sleep(_FRESH_SECONDS)
