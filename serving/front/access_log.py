"""The door's access log: read from nginx's file, counted for Prometheus, and written to serving's log.

nginx writes to a file in its folder, so it never waits for this process. A large file is replaced.
"""

import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Self

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.log import Log

LARGE_BYTES = 16 << 20
_SECONDS = 0.1  # in bulk: waking up for each line would take more processor time than the line
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FACTS = re.compile(rb'"status":(\d+),"rule":"([a-z-]*)","bytes":\d+,"seconds":([\d.]+),')
_ERRORS_AT_ONCE = 10

Take = Callable[[bytes], None]  # takes whole lines


class AccessLog(Collector):
    """Follows nginx's files within a `with` block, and counts requests by status and rule.

    Args:
        folder: nginx's folder, with `access.log` and `error.log`.
        log: Where the lines go.
        reopen: Tells nginx to open its files again.
    """

    def __init__(self, folder: Path, log: Log, reopen: Callable[[], None]) -> None:
        self._log = log
        self._access, self._errors = _Tail(folder / "access.log", reopen), _Tail(folder / "error.log", reopen)
        self._statuses: Counter[bytes] = Counter()
        self._rules: Counter[bytes] = Counter()
        self._times = [0] * (len(_BUCKETS) + 1)
        self._seconds = 0.0
        self._last = float("-inf")
        self._ended = Event()
        self._reopen = reopen
        self._watched: tuple[_Tail, Take, Take] | None = None

    def watch(self, copies: Path, take_live: Take, take_copies: Take) -> None:
        """Pass on lines from now on, in the thread of this log.

        Args:
            copies: The log of copies.
            take_live: Called with lines of the access log.
            take_copies: Called with lines of the log of copies.
        """
        self._watched = (_Tail(copies, self._reopen), take_live, take_copies)

    def unwatch(self) -> None:
        """Pass on no more lines."""
        self._watched = None

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        statuses = CounterMetricFamily("serving_http_requests", "Requests answered by the door", labels=["status"])
        for status, count in sorted(self._statuses.items()):
            statuses.add_metric([status.decode()], count)
        yield statuses
        rules = CounterMetricFamily("serving_http_refusals", "Requests that the door refused", labels=["rule"])
        for rule, count in sorted(self._rules.items()):
            rules.add_metric([rule.decode()], count)
        yield rules
        total, buckets = 0, []
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self._times, strict=True):
            total += count
            buckets.append((bound, total))
        seconds = HistogramMetricFamily("serving_http_request_seconds", "From a request's first byte to its last")
        seconds.add_metric([], buckets, self._seconds)
        yield seconds

    def seconds_since_last(self) -> float:
        """How long ago the last request was answered."""
        return time.monotonic() - self._last

    def _follow(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._read()
        self._read()

    def _read(self) -> None:
        with suppress(OSError):
            self._count_and_copy(lines := self._access.read())
            if watched := self._watched:
                tail, take_live, take_copies = watched
                take_live(lines)
                take_copies(tail.read())
            errors = self._errors.read().decode(errors="replace").splitlines()
            for line in errors[:_ERRORS_AT_ONCE]:
                self._log.write_line(line, "ERROR", "nginx")
            self._log.count_dropped(len(errors[_ERRORS_AT_ONCE:]))

    def _count_and_copy(self, lines: bytes) -> None:
        for status, rule, seconds in _FACTS.findall(lines):
            self._statuses[status] += 1
            if rule:
                self._rules[rule] += 1
            took = float(seconds)
            self._times[bisect_left(_BUCKETS, took)] += 1
            self._seconds += took
        if lines:
            self._last = time.monotonic()
            self._log.write(lines.decode(errors="replace").encode())


class _Tail:
    """Reads what is appended to a file; a large file is moved away, and read to its end once there is a new one."""

    def __init__(self, path: Path, reopen: Callable[[], None]) -> None:
        self._path, self._reopen = path, reopen
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> bytes:
        """The whole lines since the last call."""
        data = self._file.read()
        if self._file.tell() > LARGE_BYTES:
            self._path.rename(old := self._path.with_suffix(".old"))
            self._reopen()
            while not self._path.exists():
                time.sleep(_SECONDS / 10)
            time.sleep(_SECONDS)  # until nginx's other process has opened it, too
            data += self._file.read()
            self._file.close()
            self._file = self._path.open("rb")
            old.unlink()
        lines, end, self._rest = (self._rest + data).rpartition(b"\n")
        return lines + end
