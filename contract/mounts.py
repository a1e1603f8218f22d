"""What may be relied on in a file system that nodes share: reads `/proc/self/mountinfo`, of Linux."""

import re
from pathlib import Path
from typing import NamedTuple

# File systems of one node, which see at once what was written; others may be shared with nodes that cache.
_LOCAL = {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "squashfs", "tmpfs", "xfs", "zfs"}
# NFS keeps what it knows of a folder for up to 60 seconds, and so that a file is not in it.
_CACHED_SECONDS = 90.0
# Whose protocols have no locks: the kernel grants them, to the processes of its own node.
_WITHOUT_LOCKS = {"fuse.blobfuse2", "fuse.gcsfuse", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"}
# Of NFS, Lustre and SMB, whose locks these leave to the node.
_OPTIONS_WITHOUT_LOCKS = {"local_lock=all", "local_lock=flock", "localflock", "nobrl", "nolock"}
_MOUNTS = Path("/proc/self/mountinfo")


class _Mount(NamedTuple):
    place: str
    kind: str
    options: frozenset[str]


def patience(path: Path) -> float:
    """How long to wait for a file that another node has written.

    Args:
        path: A folder of a volume, or a file in one.

    Returns:
        Seconds; 0 on a file system of one node.
    """
    return 0.0 if _mount(path).kind in _LOCAL else _CACHED_SECONDS


def locks_end_at_the_node(path: Path) -> bool:
    """Whether a lock keeps only processes of this node away, though other nodes have the same files.

    Args:
        path: As for `patience`.

    Returns:
        What the kind and the options of the mount say; False where they say nothing.
    """
    mount = _mount(path)
    return mount.kind in _WITHOUT_LOCKS or not _OPTIONS_WITHOUT_LOCKS.isdisjoint(mount.options)


def _mount(path: Path) -> _Mount:
    """The mount that a path is on."""
    here, found = path.resolve(), _Mount("", "overlay", frozenset())
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return found
    for line in lines:
        mounted, _, source = line.partition(" - ")
        # Blanks and backslashes in a path stand there as octal numbers.
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted.split()[4])
        if here.is_relative_to(place) and len(place) >= len(found.place):  # of two at one place the later one counts
            kind, _, options = source.split(" ", 2)
            found = _Mount(place, kind, frozenset(options.split(",")))
    return found
