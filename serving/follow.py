"""Lets a running server follow the pointer: reads `current.json` regularly and switches to the version it names."""

import time
from pathlib import Path

from serving.log import Log
from serving.monitor import Monitor
from serving.pointer import Pointer, PointerError, check_archive, read_pointer
from serving.server import Server
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
    """

    def __init__(self, server: Server, volume: Path, log: Log, monitor: Monitor) -> None:
        self._server, self._volume, self._log, self._monitor = server, volume, log, monitor
        self._failed: tuple[Pointer, float] | None = None
        self._error = ""

    def poll(self) -> None:
        """Switch if the pointer names another version. It never raises; the same error is reported once."""
        try:
            pointer = read_pointer(self._volume)
            if pointer.version != self._server.version:
                if self._failed_lately(pointer):
                    return
                self._switch(pointer)
            self._failed, self._error = None, ""
        except Exception as error:  # no error may end the server
            message = str(error) if isinstance(error, PointerError | TorchServeError) else repr(error)
            self._report_once(f"{message}; {self._server.version} is still served")

    def _switch(self, pointer: Pointer) -> None:
        old, began = self._server.version, time.monotonic()
        try:
            check_archive(pointer)
            if (pointer.name, pointer.mar.parent) != (self._server.name, self._server.mar.parent):
                raise TorchServeError(
                    f"{pointer.mar} of {pointer.name} is in another model store, or has another name: "
                    "stop this server and start it again"
                )
            self._server.switch(pointer.mar, pointer.version)
        except Exception:
            self._failed = (pointer, time.monotonic())
            self._monitor.count_switch(succeeded=False)
            raise
        self._monitor.count_switch(succeeded=True)
        self._monitor.set_model(pointer.name, pointer.version)
        self._log.announce(f"switched from {old} to {pointer.version} in {time.monotonic() - began:.1f} s")

    def _failed_lately(self, pointer: Pointer) -> bool:
        return self._failed is not None and (
            self._failed[0] == pointer and time.monotonic() - self._failed[1] < RETRY_SECONDS
        )

    def _report_once(self, message: str) -> None:
        if message != self._error:
            self._error = message
            self._log.announce(f"error: {message}", "ERROR")
