"""A process that is killed after its n-th effect: a write, an fsync, a rename, a removal, or a call of an API."""

import http.client
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

_FILES = ("write", "fsync", "replace", "rename", "unlink")


def killed_after(number: int, work: Callable[[], object]) -> bool:
    """Do this work in a process that kills itself after so many effects.

    Calls of the API of the same kind in a row, as the looks at a rollout are, count as one.

    Returns:
        Whether it was killed before the end.
    """
    process = multiprocessing.get_context("fork").Process(target=_run, args=(number, work))
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    assert process.exitcode in (0, 1, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


def _run(number: int, work: Callable[[], object]) -> None:
    kinds: list[str] = []

    def after(owner: Any, name: str, kind: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def effect(*words: Any, **more: Any) -> Any:
            result = original(*words, **more)
            told = kind(*words)
            if told.startswith("os.") or kinds[-1:] != [told]:
                kinds.append(told)
                if len(kinds) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, effect)

    for name in _FILES:
        after(os, name, lambda *_, name=name: f"os.{name}")
    after(http.client.HTTPConnection, "getresponse", lambda connection: f"api.{connection._method}")
    work()
