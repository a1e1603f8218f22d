"""The lock of the deploy volume: one run at a time changes what is served."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from contract.events import Warned, emit
from contract.pointer import lock_path
from steps.common.errors import StepError
from steps.common.files import writing
from steps.common.locks import acquire
from steps.common.volumes import deploy_volume

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def exclusive(*, without_locks: bool = True) -> Iterator[None]:
    """Hold the deploy volume's lock, which the kernel releases if its holder dies; wait for another run, and say so.

    On a file system without locks nothing keeps two runs apart, and this says so.

    Args:
        without_locks: go on there.

    Yields:
        Nothing.

    Raises:
        StepError: the file system has no locks, and it is not to go on; or the volume cannot be written.
        OSError: the lock cannot be taken, for another reason.
    """
    from filelock import FileLock

    folder = deploy_volume()
    with writing(folder):
        lock = FileLock(lock_path(folder), mode=0o644, fallback_to_soft=False)
        try:
            acquire(lock, "another run is switching what is served")
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            found = f"the file system of {folder} has no locks, so nothing keeps two runs that deploy apart"
            if not without_locks:
                raise StepError(
                    f"{found}: use one that has, or set deploy.without_locks: true and start one run at a time"
                ) from error
            emit(Warned(found))
        try:
            yield
        finally:
            lock.release()
