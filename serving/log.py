"""Serving's log: JSON lines from Java, the workers and this process, in one file or on standard output.

Reads TorchServe's output, and the workers' request lines from a named pipe.
"""

import fcntl
import json
import os
import re
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO

ROTATE_BYTES = 64 << 20  # a larger log file becomes FILE.1, replacing the one before

# Printed by a worker that dies, and by the frontend for an unreadable archive or a bad setting.
_FAILURE = re.compile(r"Backend worker process died|Failed to load model|Invalid configuration|Failed to bind")
# The format in log4j2.xml.
_LINE = re.compile(r"^(?P<time>\d{4}-\d\d-\d\dT[\d:.+-]+Z?) (?P<level>[A-Z]+) +(?P<logger>\S+) - (?P<message>.*)$")
_NOISE = re.compile(r"^\s+(at |\.\.\. \d+ more)|^WARNING: |^nvidia-smi not|^\s*$")
# The last line of a Python traceback, after the indented ones.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_SHOWN = 15  # lines
_CAUSES = 6  # lines: the exceptions of two workers, chained ones too
_PIPE_BYTES = 1 << 20  # some thousand lines
# Request lines are read in bulk: waking up for each one would take more CPU time than writing it.
_BULK_SECONDS = 0.05
_PATIENCE_MILLISECONDS = 200  # for whoever reads standard output; after that, lines are dropped until there is room


class Log:
    """A log that appends to a file or writes to standard output. Nobody ever waits for it: lines are dropped instead.

    It never truncates the file: another server may be writing to it, or it may hold the last server's crash.

    Args:
        path: The file; None for standard output.

    Attributes:
        path: The file; None for standard output.
        dropped: How many lines could not be written.
        on_requests: Called with the lines of workers, in a thread of this log.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.dropped = 0
        self.on_requests: Callable[[bytes], None] | None = None
        self._out, self._err = _Output(1), _Output(2)
        self._printed: deque[str] = deque(maxlen=200)
        self._lock = Lock()
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = path.open("ab", buffering=0) if path else None

    def write(self, data: bytes) -> None:
        """Write whole lines; they are dropped on a full or missing disk, or if nobody reads standard output."""
        with self._lock:
            try:
                if self._file is None or self.path is None:
                    self.dropped += self._out.write(data)
                    return
                if self._file.tell() > ROTATE_BYTES:
                    self._file = self._rotate(self._file, self.path)
                self._file.write(data)
            except (OSError, ValueError):
                self.dropped += data.count(b"\n")

    def count_dropped(self, lines: int) -> None:
        """Count lines that somebody else did not write."""
        with self._lock:
            self.dropped += lines

    def _rotate(self, file: IO[bytes], path: Path) -> IO[bytes]:
        with suppress(FileNotFoundError):  # it was moved away
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # no other server has rotated it
                os.replace(path, f"{path}.1")
        file.close()
        return path.open("ab", buffering=0)

    def write_line(self, message: str, level: str = "INFO", logger: str = "serving", at: str | None = None) -> None:
        """Write one JSON line.

        Args:
            message: The message.
            level: As Log4j names it.
            logger: The source of the message.
            at: When, in ISO 8601; now if not given.
        """
        at = at or datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "level": level, "logger": logger, "message": message}, ensure_ascii=False)
        self.write(line.encode(errors="replace") + b"\n")

    def announce(self, message: str, level: str = "INFO") -> None:
        """Write one line of this process, and also print it unless the log itself goes to standard output."""
        self.write_line(message, level)
        if self.path:
            (self._err if level == "ERROR" else self._out).write(message.encode(errors="replace") + b"\n")

    def follow_java(self, stream: IO[bytes], on_failure: Callable[[], None]) -> Thread:
        """Log Java's output until it ends, in a thread.

        Args:
            stream: The output.
            on_failure: Called for each failure that TorchServe prints.

        Returns:
            The thread.
        """
        return _start(lambda: self._copy_java(stream, on_failure))

    def follow_requests(self, pipe: Path) -> Callable[[], None]:
        """Log the lines that workers write to this named pipe, in a thread, until the function returned is called."""
        # Open for writing, too: without a writer, reads would return end of file.
        handle = os.open(pipe, os.O_RDWR)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # above this user's limit
                fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        ended = Event()
        _start(lambda: self._copy_requests(handle, ended))

        def end() -> None:
            ended.set()
            with suppress(OSError):  # it is read already
                os.write(handle, b"\n")  # wakes the thread

        return end

    def tail(self) -> str:
        """The last lines that TorchServe printed, for an error message.

        Java's stack traces and warnings are left out. Older exceptions of Python come first: they are the cause.

        Returns:
            Several lines; the first names the log file.
        """
        lines = [line for line in tuple(self._printed) if not _NOISE.match(line)]  # a copy: Java may be printing
        older = pairwise(lines[:-_SHOWN])
        causes = [line for before, line in older if before.startswith(" ") and _EXCEPTION.match(line)]
        where = f"the end of its log, {self.path}:" if self.path else "the end of its log:"
        return "\n  ".join([where, *causes[-_CAUSES:], *lines[-_SHOWN:]])

    def _copy_java(self, stream: IO[bytes], on_failure: Callable[[], None]) -> None:
        for raw in stream:
            text = raw.decode(errors="replace").rstrip("\n")
            line = _LINE.match(text)
            message = line["message"] if line else text
            self._printed.append(message)
            if line:
                self.write_line(message, line["level"], line["logger"], line["time"])
            elif message.strip():
                self.write_line(message, "WARN", "java")
            if _FAILURE.search(message):
                on_failure()

    def _copy_requests(self, handle: int, ended: Event) -> None:
        rest = b""
        while not ended.is_set():
            lines, end, rest = (rest + os.read(handle, _PIPE_BYTES)).rpartition(b"\n")
            self.write((lines + end).lstrip(b"\n"))
            if take := self.on_requests:
                take(lines)
            ended.wait(_BULK_SECONDS)
        os.close(handle)


class _Output:
    """Standard output or standard error, which may be a pipe that nobody reads."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)
        self._is_stuck = self._is_torn = False

    def write(self, data: bytes) -> int:
        """Write whole lines without waiting long; the number of lines dropped."""
        if self._is_torn:  # only the beginning of the last line was written
            data = b"\n" + data
        while data:
            # A pipe that can be written takes so much without waiting.
            end = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or select.PIPE_BUF
            try:
                can_write = self._poll.poll(0 if self._is_stuck else _PATIENCE_MILLISECONDS)
                self._is_stuck = not can_write
                if not can_write:
                    return data.count(b"\n")
                written = os.write(self._number, data[:end])
                self._is_torn = data[written - 1 : written] != b"\n"
                data = data[written:]
            except OSError:  # closed
                return data.count(b"\n")
        return 0


def _start(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread
