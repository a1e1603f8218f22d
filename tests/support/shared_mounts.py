"""Mounts of one folder as several nodes have it: SFTP by FUSE, with caches and without locks between them."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.images.docker import GID, UID

_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
CACHED_SECONDS = 3
_OPTIONS = [f"{name}={CACHED_SECONDS}" for name in ("entry_timeout", "attr_timeout", "negative_timeout")]
_OPTIONS += [f"dcache_timeout={CACHED_SECONDS}", f"uid={UID}", f"gid={GID}", "passive"]


@contextmanager
def mounted(folder: Path, places: Sequence[Path], *options: str) -> Iterator[None]:
    """Mount a folder at each of these places, as if each were another node's; skip the test where that cannot be done.

    No network and no login is needed: each mount speaks to a server of its own. All files are shown as those of the
    containers' user.

    Args:
        folder: The folder of the server.
        places: Where it is mounted; the folders are made.
        options: More options of sshfs, such as `allow_other`.

    Yields:
        Nothing.
    """
    server = next((path for path in _SERVERS if Path(path).exists()), None)
    if server is None or shutil.which("sshfs") is None:
        pytest.skip("no network file system: install Debian's sshfs and openssh-sftp-server")
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        for place in places:
            place.mkdir()
            stack.enter_context(_mount(server, folder, place, options))
        yield


@contextmanager
def _mount(server: str, folder: Path, place: Path, options: Sequence[str]) -> Iterator[None]:
    ours, theirs = socket.socketpair()
    command = ["sshfs", "-f", "-o", ",".join([*_OPTIONS, *options]), f":{folder}", str(place)]
    with (
        subprocess.Popen([server], stdin=theirs, stdout=theirs) as serving,
        subprocess.Popen(command, stdin=ours, stdout=ours, stderr=subprocess.PIPE, text=True) as mounting,
    ):
        ours.close()
        theirs.close()
        try:
            while not place.is_mount():
                if mounting.poll() is not None:
                    assert mounting.stderr
                    pytest.skip(f"no mount by FUSE: {mounting.stderr.read().strip()}")
                time.sleep(0.01)
            yield
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(place)], check=False, capture_output=True)
            mounting.terminate()
            serving.terminate()
