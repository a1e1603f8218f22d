"""Reads and decodes many image files on all cores: starts a worker for each, and gives what they find in order."""

import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from contract.paths import ROOT
from steps.common.errors import StepError
from steps.preprocess import worker
from steps.preprocess.worker import Format, Piece

_PIECE_BYTES = 8 << 20
_MOST = 256  # files of a piece
_FEW = 1000  # files for which it does not pay to start a process
_MOST_WORKERS = 16
_STANDARD_ERROR = 2  # standard output is the step's events


def pieces(folder: Path, names: Sequence[str], how: Format) -> Iterator[tuple[Sequence[str], Piece]]:
    """Read and decode files.

    Args:
        folder: Where they are.
        names: Their names there.
        how: How they are decoded.

    Yields:
        Some names, and what was found of these files; in order.

    Raises:
        StepError: A worker ended.
    """
    size = max(1, min(_MOST, _PIECE_BYTES // (how.size * how.size * how.channels)))
    cut = [names[start : start + size] for start in range(0, len(names), size)]
    count = min(_cores(), _MOST_WORKERS, len(names) // _FEW)
    if count < 2:
        yield from ((some, worker.of_files(folder, some, how)) for some in cut)
        return
    with _workers(count) as idle, ThreadPoolExecutor(count) as pool:

        def found(some: Sequence[str]) -> Piece:
            connection = idle.get()
            try:
                return worker.ask(connection, folder, some, how)
            except (EOFError, OSError) as error:
                raise StepError("a process that decodes images ended, for lack of memory perhaps: run again") from error
            finally:
                idle.put(connection)

        waiting: deque[tuple[Sequence[str], Future[Piece]]] = deque()
        try:
            for some in cut:
                waiting.append((some, pool.submit(found, some)))
                if len(waiting) > 2 * count:
                    before, future = waiting.popleft()
                    yield before, future.result()
            for before, future in waiting:
                yield before, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


@contextmanager
def _workers(count: int) -> Iterator["queue.SimpleQueue[Connection]"]:
    """Start workers, which end with this context."""
    idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    with ExitStack() as open_:
        for _ in range(count):
            here, there = Pipe()
            with there:
                process = subprocess.Popen(
                    [sys.executable, "-m", worker.__name__, str(there.fileno())],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=_STANDARD_ERROR,
                    pass_fds=[there.fileno()],
                )
            open_.callback(process.wait)
            idle.put(open_.enter_context(here))  # closed before it is waited for: that is what ends a worker
        yield idle


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
