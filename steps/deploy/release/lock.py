"""The lock of the deploy volume: one run at a time changes what is served."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from contract.events import Waiting, emit
from steps.common.files import writing
from steps.common.volumes import deploy_volume

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the deploy volume's lock, which the kernel releases if its holder dies; wait for another run, and say so.

    On a file system without locks nothing keeps two runs apart.

    Raises:
        OSError: the lock cannot be taken, for another reason than that there are none; as StepError if the volume
            cannot be written.
    """
    from filelock import FileLock, Timeout

    folder = deploy_volume()
    with writing(folder):
        lock = FileLock(folder / ".lock", mode=0o644, fallback_to_soft=False)
        try:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                emit(Waiting("another run is switching what is served"))
                lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        try:
            yield
        finally:
            lock.release()
