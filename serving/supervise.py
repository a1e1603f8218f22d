"""Watches the workers of a running server: those that are gone for good are brought back."""

import time

from serving.log import Log
from serving.server import Server

GONE_SECONDS = 20.0  # TorchServe itself restarts a worker within this time, or it has given up
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0


class Supervisor:
    """Reloads the version, then restarts TorchServe, with growing pauses, until all workers are there.

    Args:
        server: The running server.
        log: For messages.
    """

    def __init__(self, server: Server, log: Log) -> None:
        self._server, self._log = server, log
        self._missing_since: float | None = None
        self._tries, self._pause = 0, FIRST_PAUSE
        self._next = 0.0

    def poll(self) -> None:
        """Look, and act if workers have been missing for GONE_SECONDS. It never raises."""
        ready, wanted = self._server.workers()
        now = time.monotonic()
        if ready >= wanted:
            if self._tries:
                self._log.announce("all workers are there again")
            self._missing_since, self._tries, self._pause = None, 0, FIRST_PAUSE
            return
        if self._missing_since is None:
            self._missing_since, self._next = now, now + GONE_SECONDS
        if now >= self._next:
            self._repair(ready, wanted, now - self._missing_since)

    def _repair(self, ready: int, wanted: int, seconds: float) -> None:
        # A reload would interrupt a worker that still answers.
        action = "reload" if ready == 0 and self._tries == 0 else "restart"
        what = f"{wanted - ready} of {wanted} workers are gone for {seconds:.0f} s"
        self._log.announce(f"{what}: {action} of {self._server.version}", "ERROR")
        try:
            self._server.reload() if action == "reload" else self._server.restart()
        except Exception as error:  # no error may end the server
            self._log.announce(f"the {action} failed, the next try follows in {self._pause:.0f} s: {error}", "ERROR")
            self._server.monitor.count_repair(action, succeeded=False)
        else:
            self._server.monitor.count_repair(action, succeeded=True)
        self._tries += 1
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
