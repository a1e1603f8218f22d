"""Lets a running server follow the pointer: looks at `current.json`, and switches to what it newly names."""

import time
from pathlib import Path

from serving.log import Log
from serving.monitor import Monitor
from serving.pointer import Pointer, PointerError, check_archive, read_pointer
from serving.torchserve.launch import TorchServeError
from serving.torchserve.server import TorchServe

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # after which a pointer that could not be followed is tried again


class Follower:
    """Brings a server to the version that the pointer names; one that cannot be served leaves the old one serving."""

    def __init__(self, server: TorchServe, volume: Path, log: Log, monitor: Monitor) -> None:
        self._server, self._volume, self._log, self._monitor = server, volume, log, monitor
        self._failed: tuple[Pointer, float] | None = None
        self._complaint = ""

    def look(self) -> None:
        """Switch if the pointer names another version; what hinders that is said once, and raises nothing."""
        try:
            pointer = read_pointer(self._volume)
            if pointer.version != self._server.version:
                if self._failed_lately(pointer):
                    return
                self._switch(pointer)
            self._failed, self._complaint = None, ""
        except Exception as error:  # whatever it is, the server outlives it
            told = str(error) if isinstance(error, PointerError | TorchServeError) else repr(error)
            self._complain(f"{told}; {self._server.version} is still served")

    def _switch(self, pointer: Pointer) -> None:
        old, began = self._server.version, time.monotonic()
        try:
            check_archive(pointer)
            if (pointer.name, pointer.mar.parent) != (self._server.name, self._server.mar.parent):
                raise TorchServeError(f"{pointer.mar} of {pointer.name} needs a new start: stop this server first")
            self._server.switch(pointer.mar, pointer.version)
        except Exception:
            self._failed = (pointer, time.monotonic())
            self._monitor.switched(well=False)
            raise
        self._monitor.switched(well=True)
        self._monitor.serves(pointer.name, pointer.version)
        self._log.tell(f"switched from {old} to {pointer.version} in {time.monotonic() - began:.1f} s")

    def _failed_lately(self, pointer: Pointer) -> bool:
        return self._failed is not None and (
            self._failed[0] == pointer and time.monotonic() - self._failed[1] < AGAIN_SECONDS
        )

    def _complain(self, message: str) -> None:
        if message != self._complaint:
            self._complaint = message
            self._log.tell(f"error: {message}", "ERROR")
