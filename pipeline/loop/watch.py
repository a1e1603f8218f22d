"""Runs the pipeline on this machine whenever the data change: looks at the images again and again, writes nothing.

A look lists the files and reads none. A line is printed for each event.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from contract.errors import InputError, ProjectError
from contract.mounts import locks_end_at_the_node
from contract.paths import ROOT
from contract.pointer import pointer_path
from pipeline.settings import load_params
from steps.common.locks import NO_LOCKS
from steps.common.volumes import data_volume, deploy_volume
from steps.preprocess.parameters import Data

_MOST_LOOKS = 10  # at images that change all the time, before a run starts nevertheless
_LONGEST_WAIT_SECONDS = 3600.0  # after runs that failed
_DRIFT_SECONDS = 3600.0  # between two comparisons of what is served with test
_LOCK = ".watch.lock"


@dataclass(frozen=True)
class Ended:
    """How a run ended: whether it succeeded, and its last line."""

    succeeded: bool
    said: str


class Watch:
    """What is known from one look to the next.

    Args:
        look: Gives a text that is another one when images or parameters have changed; or raises ProjectError.
        run: Runs the pipeline.
        say: Is told each event.
        seconds: Between two looks.
    """

    def __init__(
        self, look: Callable[[], str], run: Callable[[], Ended], say: Callable[[str], None], seconds: float
    ) -> None:
        self._look, self._run, self._say, self._seconds = look, run, say, seconds
        self._done: str | None = None  # what the last run found
        self._pending, self._waited = "", 0
        self._failures, self._again = 0, 0.0
        self._trouble = ""

    def once(self, now: float) -> None:
        """Look, and run the pipeline if there is a reason.

        Args:
            now: The time, in seconds.
        """
        try:
            found = self._look()
        except ProjectError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say(f"no run is started: {error}")
            return
        self._trouble = ""
        if found != self._done:
            if self._done is None:
                self._start("the watch begins", found, now)
            elif self._is_settled(found):
                self._start("the data changed", found, now)
        elif self._failures and now >= self._again:
            self._start("once more after a failure", found, now)

    def _is_settled(self, found: str) -> bool:
        """Whether a change is as it was at the look before, or was waited for long enough."""
        if found == self._pending or self._waited >= _MOST_LOOKS:
            return True
        if not self._waited:
            self._say(f"the data change: a run starts when they have been still for {self._seconds:g} s")
        self._pending, self._waited = found, self._waited + 1
        return False

    def _start(self, why: str, found: str, now: float) -> None:
        self._say(f"a run starts: {why}")
        # What changes during the run is found by the next look.
        self._done, self._pending, self._waited = found, "", 0
        ended = self._run()
        self._failures = 0 if ended.succeeded else self._failures + 1
        if ended.succeeded:
            self._say(ended.said)
            return
        wait = min(self._seconds * 2**self._failures, _LONGEST_WAIT_SECONDS)
        self._again = now + wait
        self._say(f"the run failed: {ended.said}; the next try is in {wait:g} s, or when the data change")


def watch(project: Path, params: Path, volumes: Path, seconds: float) -> None:
    """Watch until SIGINT or SIGTERM.

    Args:
        project: The file with the project's settings.
        params: The file with the parameters.
        volumes: The folder of the volumes.
        seconds: Between two looks.

    Raises:
        InputError: Another watch has these volumes, or they cannot be written.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    words = ["--project", str(project.absolute()), "--params", str(params.absolute())]
    command = [sys.executable, "-m", "pipeline", "run", *words, "--volumes", str(volumes.absolute())]
    with _alone(volumes), _terminable():
        watched = Watch(lambda: look(params), lambda: run(command), _say, seconds)
        drift, next_drift = "", 0.0
        while True:
            watched.once(time.monotonic())
            if time.monotonic() >= next_drift:
                drift, next_drift = _say_drift(params, drift), time.monotonic() + _DRIFT_SECONDS
            time.sleep(seconds)


def look(params: Path) -> str:
    """A digest of the parameters, and of names and stamps of the images.

    Args:
        params: The file with the parameters.

    Returns:
        The digest.

    Raises:
        SettingsError: The parameters are wrong.
        StepError: The images cannot be listed.
    """
    settings = load_params(params)
    found = hashlib.sha256(settings.model_dump_json(exclude={"gc", "serving", "drift"}).encode())
    for part in _files(settings.data):
        found.update(part)
    return found.hexdigest()


def _files(data: Data) -> Iterator[bytes]:
    source = data.chosen_source()
    if data.source != "folder":  # whose images change with labels from review alone
        yield str(source.fingerprint()).encode()
        return
    if not (data_volume() / "images").exists():
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # its warnings
        parts = source.read()
    for name, part in parts.items():
        yield "\0".join([name, *part.names]).encode()
        yield part.files.stats if part.files else b""


def run(command: list[str]) -> Ended:
    """Run a command in a process group of its own; an interruption reaches it, and is awaited.

    Args:
        command: The command.

    Returns:
        How it ended.

    Raises:
        KeyboardInterrupt: This process was interrupted; the command has ended.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate()
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.communicate()
        raise
    if process.returncode == 0:
        return Ended(True, _last(output))
    said = errors.partition("error: ")[2] or _last(errors) or f"it ended with status {process.returncode}"
    return Ended(False, " ".join(said.split()))


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _say(text: str) -> None:
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)


def _say_drift(params: Path, before: str) -> str:
    """Compare what is served with test, and say so if the word is another one than before."""
    try:
        if not pointer_path(deploy_volume()).exists():
            return before
        from steps.drift.measure import keep, measure
        from steps.drift.sample import EMPTY

        found = measure(load_params(params).drift, lambda _: EMPTY)
        if not found.record.images:
            return before
        keep(found)
    except ProjectError as error:
        word, why = "not known", str(error)
    else:
        word, why = found.record.word, found.record.why
    if word != before:
        _say(f"drift: {word}: {why}")
    return word


@contextlib.contextmanager
def _alone(volumes: Path) -> Iterator[None]:
    """Let one watch at a time look at these volumes."""
    try:
        volumes.mkdir(parents=True, exist_ok=True)
        lock = FileLock(volumes / _LOCK, fallback_to_soft=False)
        lock.acquire(blocking=False)
        is_alone = not locks_end_at_the_node(volumes)
    except Timeout as error:
        raise InputError(f"another make watch runs for {volumes}: end that one first") from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise InputError(f"{volumes} cannot be written ({error.strerror}): choose another with VOLUMES=") from error
        is_alone = False
    if not is_alone:
        _say(f"{volumes} has no locks that hold on every node: let one make watch at a time run for it")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end this as Ctrl-C does, also in the background."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    # A shell starts background processes with SIGINT ignored, which a run would inherit.
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
