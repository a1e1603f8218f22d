"""A file system without locks, as some network file systems are."""

import errno


def no_locks(*_: object) -> None:
    """Refuse a lock; in the place of `fcntl.flock`."""
    raise OSError(errno.ENOLCK, "No locks available")
