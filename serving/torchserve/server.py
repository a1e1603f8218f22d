"""One TorchServe process that serves one model: started, known to answer, switched to another, and stopped.

Reads archives of one model store; all that TorchServe writes is in a temporary folder, except its log.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from serving import canary, client
from serving.golden import Golden, GoldenError, read_golden
from serving.log import Log
from serving.torchserve import launch
from serving.torchserve.launch import TorchServeError
from serving.torchserve.management import Management, ManagementError

__all__ = ["TorchServe", "TorchServeError"]

# It leads the process group that Java and the workers join, and reads a pipe that only we can write to: whatever
# ends us, kill -9 included, ends the pipe, and the whole group with it.
_WATCHDOG = 'read -r _; rm -rf "$0" "$1"; kill -KILL 0'
_POLL = 0.02
_QUIET_SECONDS = 1.0  # for which nothing has waited for a version when it is removed or ended
DRAIN_SECONDS = 20.0  # the most that is waited for that at the end
END_SECONDS = 10.0  # and for TorchServe to end after it


class TorchServe:
    """Serves `mar` under `name` within a `with` block, which is entered once a canary prediction was answered.

    With a version the archive has to be of this one. With port 0 a free port is taken. Raises TorchServeError.
    """

    def __init__(
        self,
        mar: Path,
        name: str,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        log: Log,
        version: str | None = None,
        timeout: float = 120.0,
    ) -> None:
        self.mar = mar.resolve()
        self.name = name
        self.log = log
        self.timeout = timeout
        self.host, self.port = host, port
        self._golden = _read(self.mar, version)

    @property
    def version(self) -> str:
        """The version that is served."""
        return self._golden.version

    @property
    def url(self) -> str:
        """The address that answers predictions."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - it is not bound here
        return f"http://{host}:{self.port}/predictions/{self.name}"

    @property
    def folder(self) -> Path:
        """Where TorchServe and its workers write while they run."""
        return self._folder

    @property
    def metrics(self) -> Path | int:
        """Where TorchServe tells its own metrics: a socket's path, or a port of loopback."""
        return launch.metrics_address(self._folder, self._ports)

    def predict(self, image: bytes, timeout: float = 60.0) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the JSON answered for one image file."""
        return client.predict(self.url, image, timeout)

    def switch(self, mar: Path, version: str) -> None:
        """Serve another archive of the model store, of this version, from now on; no request finds nobody to answer.

        The new version is loaded beside the old and asked its golden predictions, then it gets the requests, and the
        old one is removed. Raises TorchServeError, and then the old one is served as before.
        """
        golden = _read(mar, version)
        if golden.version == self.version:
            raise TorchServeError(f"version {golden.version} is served already")
        try:
            self._load(mar, golden)
            golden.check(f"{self.url}/{golden.version}")
            canary.leave(self.port, self.url, self._golden, golden)
            self._management.make_default(golden.version)
            canary.leave(self.port, self.url, golden)
        except Exception as error:
            with suppress(ManagementError):
                self._management.make_default(self.version)
                self._management.remove(golden.version)
            with suppress(OSError):
                canary.leave(self.port, self.url, self._golden)
            room = f"; is there room in {self.folder}?" if "Failed to save model" in str(error) else ""
            raise TorchServeError(f"{mar} cannot be served, {self.version} still is: {error}{room}") from error
        old, self._golden, self.mar = self.version, golden, mar
        self._remove(old)

    def wait(self, timeout: float | None = None) -> int | None:
        """The status of TorchServe once it has ended by itself; None if it runs on after `timeout` seconds."""
        try:
            return self._java.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def drain(self) -> None:
        """Let what was accepted be answered, then end TorchServe, which closes all connections at once."""
        with suppress(ManagementError):
            self._until_quiet(self.version, DRAIN_SECONDS)
        self._java.terminate()
        self.wait(END_SECONDS)

    def __enter__(self) -> Self:
        try:
            self._enter()
        except OSError as error:
            raise TorchServeError(
                f"TorchServe cannot be started ({error}): it needs a folder for temporary files with some room in it, "
                "which TMPDIR may name"
            ) from error
        return self

    def _enter(self) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ts-", ignore_cleanup_errors=True)))
            launch.check_length(folder)
            self._folder = folder
            (folder / "metrics").mkdir()
            os.mkfifo(folder / "requests")
            self.log.follow_requests(folder / "requests")
            self._ports = ports = launch.free_ports(self.host, self.port)
            self.port = ports[0]
            environment = launch.environment(folder, self.host, ports, os.environ)
            note = canary.canary_path(self.port)
            words = ["/bin/sh", "-c", _WATCHDOG, str(folder), str(note)]
            watchdog = subprocess.Popen(words, stdin=subprocess.PIPE, process_group=0)
            stack.callback(note.unlink, missing_ok=True)
            stack.callback(_kill_group, watchdog)
            self._java = subprocess.Popen(
                launch.command(self.mar.parent, folder),
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=watchdog.pid,
            )
            stack.callback(self._java.wait)
            stack.callback(self._java.kill)
            assert self._java.stdout is not None  # noqa: S101 - for mypy: it is a pipe
            self._output = self.log.follow_java(self._java.stdout)
            self._management = Management(launch.management_address(folder, ports), self.name)
            self._start()
            self._running = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start(self) -> None:
        deadline = time.monotonic() + self.timeout
        self._until(self._management.answers, deadline, "TorchServe", self.log.failures)
        try:
            self._load(self.mar, self._golden)
            self._until(lambda: self._golden.canary(self.url, 5.0), deadline, str(self.mar), self.log.failures)
        except (GoldenError, ManagementError) as error:
            raise TorchServeError(f"{self.mar} cannot be served: {error}") from error
        canary.leave(self.port, self.url, self._golden)

    def _load(self, mar: Path, golden: Golden) -> None:
        failures = self.log.failures
        self._management.register(mar.name)
        deadline = time.monotonic() + self.timeout
        self._until(lambda: self._management.loaded(golden.version), deadline, str(mar), failures)

    def _until(self, done: Callable[[], bool], deadline: float, what: str, failures: int) -> None:
        """Wait until it is done; TorchServeError if TorchServe says that it cannot be, ends, or takes too long."""
        while not done():
            if (status := self._java.poll()) is not None:
                self._output.join(timeout=5)
                raise TorchServeError(f"TorchServe ended with status {status}; {self.log.tail()}")
            if self.log.failures > failures:
                time.sleep(0.2)  # for the rest of what it has to say
                raise TorchServeError(f"{what} does not load; {self.log.tail()}")
            if time.monotonic() > deadline:
                raise TorchServeError(f"{what} is not ready after {self.timeout:g} s; {self.log.tail()}")
            time.sleep(_POLL)

    def _remove(self, version: str) -> None:
        """Remove a version that gets no requests any more, once it has answered those that it got."""
        with suppress(ManagementError):  # of a server that is ending, or gone
            self._until_quiet(version, self.timeout)
            self._management.remove(version)

    def _until_quiet(self, version: str, seconds: float) -> None:
        """Wait until nothing has waited for a version for a while, which is when its last batch is answered."""
        quiet = began = time.monotonic()
        while time.monotonic() - quiet < _QUIET_SECONDS and time.monotonic() - began < seconds:
            if self._management.pending(version):
                quiet = time.monotonic()
            time.sleep(_POLL)


def _read(mar: Path, version: str | None) -> Golden:
    try:
        golden = read_golden(mar)
    except GoldenError as error:
        raise TorchServeError(str(error)) from error
    if version not in (None, golden.version):
        raise TorchServeError(f"{mar} is of version {golden.version}, and not of {version}: deploy it anew by make run")
    return golden


def _kill_group(watchdog: subprocess.Popen[bytes]) -> None:
    os.killpg(watchdog.pid, signal.SIGKILL)  # itself, and whatever Java left
    watchdog.communicate()
