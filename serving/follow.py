"""Lets a running server follow the pointer: reads `current.json` regularly and switches to the version it names.

A version that is to be shadowed gets copies of the requests first. What came of it is written to the deploy volume, if
this process may write there.
"""

import time
from pathlib import Path

from serving.log import Log
from serving.monitor import Monitor
from serving.pointer import Pointer, PointerError, check_archive, read_pointer
from serving.server import Server
from serving.shadow.judge import Verdict
from serving.shadow.record import BusyError, write_verdict
from serving.shadow.trial import Trial
from serving.torchserve.launch import TorchServeError

POLL_SECONDS = 1.0
RETRY_SECONDS = 60.0  # after a switch that failed


class Follower:
    """Switches a server to the version that the pointer names; if that fails, the old version is still served.

    Args:
        server: The running server.
        volume: The deploy volume.
        log: For messages.
        monitor: For metrics.
        version: The version to serve, whatever the pointer says; the pointer's if empty.
    """

    def __init__(self, server: Server, volume: Path, log: Log, monitor: Monitor, version: str = "") -> None:
        self._server, self._volume, self._log, self._monitor = server, volume, log, monitor
        self._version = version
        self._failed: tuple[Pointer, float] | None = None
        self._refused: Pointer | None = None
        self._trial: Trial | None = None
        self._verdict: Verdict | None = None  # of the trial, if it is not written yet
        self._error = ""

    def poll(self) -> None:
        """Switch if the pointer names another version. It never raises; the same error is reported once."""
        try:
            pointer = read_pointer(self._volume, self._version)
            if self._trial and self._trial.pointer != pointer:
                self._end_trial(keep=False)
                self._log.announce("the shadowing ends, since the pointer has changed")
            if pointer.version != self._server.version:
                if pointer == self._refused or self._failed_lately(pointer):
                    return
                self._go_on(pointer)
            self._failed, self._error = None, ""
        except Exception as error:  # no error may end the server
            message = str(error) if isinstance(error, PointerError | TorchServeError) else repr(error)
            self._report_once(f"{message}; {self._server.version} is still served")

    def _go_on(self, pointer: Pointer) -> None:
        try:
            if self._trial:
                self._poll_trial(self._trial)
                return
            check_archive(pointer)
            if (pointer.name, pointer.mar.parent) != (self._server.name, self._server.mar.parent):
                raise TorchServeError(
                    f"{pointer.mar} of {pointer.name} is in another model store, or has another name: "
                    "stop this server and start it again"
                )
            if pointer.shadow:
                self._begin_trial(pointer)
            else:
                began, old = time.monotonic(), self._server.version
                self._server.switch(pointer.mar, pointer.version)
                self._tell_switched(old, f"in {time.monotonic() - began:.1f} s")
        except Exception as error:
            self._failed = (pointer, time.monotonic())
            self._monitor.count_switch(succeeded=False)
            if self._trial:
                self._end_trial(keep=False)
            if pointer.shadow:
                self._monitor.fail_shadow(pointer.version, str(error))
            raise

    def _begin_trial(self, pointer: Pointer) -> None:
        trial = Trial(self._server, pointer, pointer.shadow or {})
        trial.begin()
        self._trial = trial
        self._monitor.start_shadow(pointer.version)
        limits, old = trial.limits, self._server.version
        self._log.announce(
            f"{pointer.version} gets copies of {limits.share:.0%} of the requests for {limits.seconds:g} s, "
            f"{old} answers"
        )

    def _poll_trial(self, trial: Trial) -> None:
        self._verdict = self._verdict or trial.poll()
        if self._verdict is None:
            return
        verdict, old = self._verdict, self._server.version
        try:
            written = self._write(trial, verdict)
        except BusyError:
            return  # the next poll tries again
        self._end_trial(keep=verdict.passed)
        figures = verdict.figures.summary()
        self._monitor.judge_shadow(trial.pointer.version, verdict.passed, verdict.reason, figures)
        if verdict.passed:
            self._server.promote()
            self._tell_switched(old, f"after it was {verdict.reason}")
            return
        if not written:  # the pointer still names it
            self._refused = trial.pointer
        self._monitor.count_switch(succeeded=False)
        said = f"{trial.pointer.version} is refused, {old} is still served: {verdict.reason}"
        self._log.announce(f"error: {said}", "ERROR")

    def _write(self, trial: Trial, verdict: Verdict) -> bool:
        """Write the verdict to the volume; False if it cannot be written, or is none of this server's business."""
        if self._version:  # in a pod; deploy asks for the verdict
            return False
        try:
            return write_verdict(
                self._volume, trial.pointer.version, trial.limits.before, passed=verdict.passed, reason=verdict.reason
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._log.announce(f"the verdict on {trial.pointer.version} cannot be written: {error!r}", "ERROR")
            return False

    def _end_trial(self, *, keep: bool) -> None:
        trial, self._trial, self._verdict = self._trial, None, None
        self._monitor.stop_shadow()
        if trial:
            trial.end(keep=keep)

    def _tell_switched(self, old: str, how: str) -> None:
        self._monitor.count_switch(succeeded=True)
        self._monitor.set_model(self._server.name, self._server.version)
        self._log.announce(f"switched from {old} to {self._server.version} {how}")

    def _failed_lately(self, pointer: Pointer) -> bool:
        return self._failed is not None and (
            self._failed[0] == pointer and time.monotonic() - self._failed[1] < RETRY_SECONDS
        )

    def _report_once(self, message: str) -> None:
        if message != self._error:
            self._error = message
            self._log.announce(f"error: {message}", "ERROR")
