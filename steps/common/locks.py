"""Takes a lock for which another run may have to be waited for."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from contract.events import Waiting, emit
from contract.mounts import locks_end_at_the_node

if TYPE_CHECKING:
    from filelock import FileLock  # imported late, with its asyncio: only who builds needs it

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # of a file system without locks


@contextmanager
def held(path: Path, message: str = "") -> Iterator[bool]:
    """Hold a lock, where the file system has locks; the kernel drops it when its holder dies.

    Args:
        path: The file of the lock.
        message: What is waited for, which is said if it has to be.

    Yields:
        Whether the lock keeps the processes of all nodes away.
    """
    from filelock import FileLock

    lock, everywhere = FileLock(path, fallback_to_soft=False), False
    with suppress(OSError):
        everywhere = acquire(lock, message)
    try:
        yield everywhere
    finally:
        lock.release()


def acquire(lock: "FileLock", message: str = "") -> bool:
    """Take a lock, and say so if that means to wait.

    Args:
        lock: The lock.
        message: What is waited for; empty to say nothing.

    Returns:
        Whether it keeps the processes of all nodes away; False where there are no locks, or they end at this node.

    Raises:
        OSError: The lock cannot be taken, for another reason than that the file system has none.
    """
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout:
        if message:
            emit(Waiting(message))
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return not locks_end_at_the_node(Path(lock.lock_file))
