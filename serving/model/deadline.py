"""Bounds the CPU time of a request: past it the worker ends, or the process of its own that a repeated request gets.

Part of the model archive; standard library only. CPU time, so that a busy machine makes no request late; a worker that
waits for ever is replaced by TorchServe, after `responseTimeout`.
"""

import faulthandler
import os
import signal
import traceback
from collections.abc import Callable

# Seconds for one request. Decoding the most expensive one takes less than 2, see `decode`.
CPU_SECONDS = 5.0

_ENDED = 1


class Late(Exception):
    """A request took more than CPU_SECONDS."""


def install() -> None:
    """Make a late process write its stack to standard error, which is logged, and end."""
    faulthandler.register(signal.SIGPROF, file=2, all_threads=False, chain=True)


def start() -> None:
    """Start the time of a request in this process, or start it anew."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)


def stop() -> None:
    """Stop the time."""
    signal.setitimer(signal.ITIMER_PROF, 0)


def run_alone(work: Callable[[], bytes]) -> bytes:
    """Do the work in a process of its own, whose end is not that of this one.

    Args:
        work: What to do. It starts no threads.

    Returns:
        What the work gives.

    Raises:
        Late: It took more than CPU_SECONDS.
        RuntimeError: Its process died of something else.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _work(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGPROF:
        raise Late
    if status:
        raise RuntimeError(f"the process of a request ended with status {status}")
    return result


def _work(work: Callable[[], bytes], writer: int) -> None:
    try:
        start()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(work())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(_ENDED)
