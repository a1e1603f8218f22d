"""The lock of the deploy volume: one run at a time changes what is served."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.events import Warned, emit
from contract.pointer import lock_path
from steps.common.errors import StepError
from steps.common.files import writing
from steps.common.locks import acquire
from steps.common.volumes import deploy_volume


@contextmanager
def exclusive(*, without_locks: bool = True) -> Iterator[None]:
    """Hold the deploy volume's lock, which the kernel releases if its holder dies; wait for another run, and say so.

    Where locks are lacking, or end at the node, nothing keeps two runs apart, and this says so.

    Args:
        without_locks: Go on there.

    Yields:
        Nothing.

    Raises:
        StepError: There are no such locks, and it is not to go on; or the volume cannot be written.
        OSError: The lock cannot be taken, for another reason.
    """
    from filelock import FileLock

    folder = deploy_volume()
    with writing(folder):
        lock = FileLock(lock_path(folder), mode=0o644, fallback_to_soft=False)
        try:
            if not acquire(lock, "another run is switching what is served"):
                found = (
                    f"the file system of {folder} has no locks that hold on every node, so nothing keeps two runs that "
                    "deploy apart"
                )
                if not without_locks:
                    raise StepError(
                        f"{found}: use one that has, or set deploy.without_locks: true and start one run at a time"
                    )
                emit(Warned(found))
            yield
        finally:
            lock.release()
