"""Serving's log: JSON lines from Java, the workers and ourselves, to one file or to standard output.

Reads what TorchServe prints, and what its workers write of requests into a named pipe.
"""

import fcntl
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Lock, Thread
from typing import IO

ROTATE_BYTES = 64 << 20  # a log file that grows over this becomes FILE.1, and what that held is gone

# What the worker prints before it ends, and the frontend when it cannot read an archive.
_FAILURE = re.compile(r"Backend worker process died|Failed to load model|Invalid configuration|Failed to bind")
# As log4j2.xml lets TorchServe write.
_LINE = re.compile(r"^(?P<time>\d{4}-\d\d-\d\dT[\d:.+-]+Z?) (?P<level>[A-Z]+) +(?P<logger>\S+) - (?P<message>.*)$")
_NOISE = re.compile(r"^\s+(at |\.\.\. \d+ more)|^WARNING: |^nvidia-smi not|^\s*$")
# How a trace of Python ends, after its indented lines.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_SHOWN = 15
_CAUSES = 6  # those of two workers, each with what it led to
_PIPE_BYTES = 1 << 20  # some thousand lines
# Lines are read in bulk: to be woken for each would cost the workers more than what they write.
_GATHER_SECONDS = 0.05


class Log:
    """Writes to `path`, or to standard output without one; `tail` and `failures` tell what TorchServe said.

    Goes on after what the file holds: another server may write to it now, or what ended the last one stand in it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.failures = 0
        self._said: deque[str] = deque(maxlen=200)
        self._lock = Lock()
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab", buffering=0) if path else sys.stdout.buffer

    def write(self, data: bytes) -> None:
        """Write whole lines; a disk that is full or gone costs lines, and never a prediction."""
        with self._lock:
            try:
                if self.path and self._file.tell() > ROTATE_BYTES:
                    self._rotate(self.path)
                self._file.write(data)
                self._file.flush()
            except (OSError, ValueError):
                pass

    def _rotate(self, path: Path) -> None:
        with suppress(FileNotFoundError):  # somebody has moved it away
            if os.path.samestat(os.fstat(self._file.fileno()), path.stat()):  # and no other server has done it
                os.replace(path, f"{path}.1")
        self._file.close()
        self._file = path.open("ab", buffering=0)

    def say(self, message: str, level: str = "INFO", logger: str = "serving", at: str | None = None) -> None:
        """Write one line of ours."""
        at = at or datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "level": level, "logger": logger, "message": message}, ensure_ascii=False)
        self.write(line.encode(errors="replace") + b"\n")

    def tell(self, message: str, level: str = "INFO") -> None:
        """Write one line of ours, and show it to whoever started the server, too."""
        self.say(message, level)
        if self.path:
            print(message, file=sys.stderr if level == "ERROR" else sys.stdout, flush=True)

    def follow_java(self, stream: IO[bytes]) -> Thread:
        """Write what Java prints, until it ends."""
        return _start(lambda: self._copy_java(stream))

    def follow_requests(self, pipe: Path) -> None:
        """Write what workers put into this named pipe, until the process ends."""
        # Open for writing, too: a pipe that has no writer for a moment would be at its end.
        handle = os.open(pipe, os.O_RDWR)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more than this user may have
                fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        _start(lambda: self._copy_requests(handle))

    def tail(self) -> str:
        """The last lines that TorchServe printed, without Java's traces and its warnings about itself.

        The last lines of Python's traces come before them, where they are older: a worker's death says little.
        """
        lines = [line for line in tuple(self._said) if not _NOISE.match(line)]  # Java may be saying more meanwhile
        older = pairwise(lines[:-_SHOWN])
        causes = [line for before, line in older if before.startswith(" ") and _EXCEPTION.match(line)]
        where = f"the end of its log, {self.path}:" if self.path else "the end of its log:"
        return "\n  ".join([where, *causes[-_CAUSES:], *lines[-_SHOWN:]])

    def _copy_java(self, stream: IO[bytes]) -> None:
        for raw in stream:
            text = raw.decode(errors="replace").rstrip("\n")
            line = _LINE.match(text)
            message = line["message"] if line else text
            self._said.append(message)
            if line:
                self.say(message, line["level"], line["logger"], line["time"])
            elif message.strip():
                self.say(message, "WARN", "java")
            if _FAILURE.search(message):
                self.failures += 1

    def _copy_requests(self, handle: int) -> None:
        rest = b""
        while True:
            lines, end, rest = (rest + os.read(handle, _PIPE_BYTES)).rpartition(b"\n")
            self.write(lines + end)
            time.sleep(_GATHER_SECONDS)


def _start(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread
