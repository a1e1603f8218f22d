"""A group of processes that ends with this process, however this process ends; it removes their folder."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

# The leader of the process group. It reads a pipe whose only writer is this process: when this process ends in any way,
# kill -9 included, the pipe closes and the watchdog kills the group.
_WATCHDOG = 'read -r _; rm -rf "$@"; kill -KILL 0'


class Group:
    """Processes that run within a `with` block; at its end they are killed.

    Args:
        *folders: Removed if this process is killed, and at the end of the block.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in the group, without standard input.

        Args:
            command: Its command line.
            **options: Of `subprocess.Popen`.

        Returns:
            The process.
        """
        leader = self._watchdog.pid
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=leader, **options)

    def __enter__(self) -> Self:
        words = ["/bin/sh", "-c", _WATCHDOG, "sh", *map(str, self._folders)]
        self._watchdog = subprocess.Popen(words, stdin=subprocess.PIPE, process_group=0)
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._watchdog.pid, signal.SIGKILL)  # the watchdog, and any process that is left
        self._watchdog.communicate()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
