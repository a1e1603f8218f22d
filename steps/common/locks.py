"""Takes a lock for which another run may have to be waited for."""

from typing import TYPE_CHECKING

from contract.events import Waiting, emit

if TYPE_CHECKING:
    from filelock import FileLock  # imported late, with its asyncio: only who builds needs it


def acquire(lock: "FileLock", message: str) -> None:
    """Take a lock, and say so if that means to wait.

    Args:
        lock: The lock.
        message: What is waited for.

    Raises:
        OSError: The lock cannot be taken, as on a file system without locks.
    """
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        emit(Waiting(message))
        lock.acquire()
