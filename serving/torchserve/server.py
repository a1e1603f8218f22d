"""A TorchServe process that serves one model: start, readiness, switch to another version, drain, stop.

Reads archives of one model store. TorchServe writes to a temporary folder only, except for its log.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from serving import client
from serving.canary import canary_path, write_canary
from serving.golden import Golden, GoldenError, read_golden
from serving.log import Log
from serving.torchserve import launch
from serving.torchserve.launch import TorchServeError
from serving.torchserve.management import Management, ManagementError

__all__ = ["TorchServe", "TorchServeError"]

# The leader of the process group of Java and the workers. It reads a pipe whose only writer is this process: when this
# process ends in any way, kill -9 included, the pipe closes and the watchdog kills the group.
_WATCHDOG = 'read -r _; rm -rf "$0" "$1"; kill -KILL 0'
_POLL_SECONDS = 0.02
_IDLE_SECONDS = 1.0  # a version with an empty queue for this long is idle
DRAIN_SECONDS = 20.0  # the longest wait for that at the end
END_SECONDS = 10.0  # then the longest wait for TorchServe to end


class TorchServe:
    """A server that runs within a `with` block; the block is entered when the canary has been answered.

    Args:
        mar: The model archive, in its model store.
        name: The model's name, part of the URL.
        port: The port for predictions; 0 for any free port.
        host: The address to listen on.
        log: For the output of TorchServe.
        version: The version that the archive must have; any if not given.
        timeout: Seconds to start, to load a model, and to finish the requests of a version.

    Raises:
        TorchServeError: The archive is unusable; on entering the block: the model cannot be served.
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
        """The version being served."""
        return self._golden.version

    @property
    def url(self) -> str:
        """The address for predictions."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - not bound here
        return f"http://{host}:{self.port}/predictions/{self.name}"

    @property
    def folder(self) -> Path:
        """The folder for temporary files of TorchServe and its workers."""
        return self._folder

    @property
    def metrics(self) -> Path | int:
        """The address of TorchServe's metrics: the path of a Unix socket, or a port of the loopback address."""
        return launch.metrics_address(self._folder, self._ports)

    def predict(self, image: bytes, timeout: float = 60.0) -> client.Answer:
        """HTTP status and JSON for one image file; see `client.predict`."""
        return client.predict(self.url, image, timeout)

    def switch(self, mar: Path, version: str) -> None:
        """Switch to another version without losing a request.

        The new version is loaded beside the old one and checked with its golden predictions. Then it becomes the
        default, and the old one is removed when it is idle.

        Args:
            mar: Another archive of the same model store.
            version: The version that it must have.

        Raises:
            TorchServeError: It cannot be served; the old version is still served.
        """
        golden = _read(mar, version)
        if golden.version == self.version:
            raise TorchServeError(f"version {golden.version} is served already")
        try:
            self._load(mar, golden)
            golden.check(f"{self.url}/{golden.version}")
            write_canary(self.port, self.url, self._golden, golden)
            self._management.make_default(golden.version)
            write_canary(self.port, self.url, golden)
        except Exception as error:
            with suppress(ManagementError):
                self._management.make_default(self.version)
                self._management.remove(golden.version)
            with suppress(OSError):
                write_canary(self.port, self.url, self._golden)
            room = f"; is there room in {self.folder}?" if "Failed to save model" in str(error) else ""
            raise TorchServeError(f"{mar} cannot be served, {self.version} still is: {error}{room}") from error
        old, self._golden, self.mar = self.version, golden, mar
        self._remove(old)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for TorchServe to end by itself: its exit status, or None if it still runs after `timeout` seconds."""
        try:
            return self._java.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def drain(self) -> None:
        """Wait until all accepted requests are answered, then end TorchServe, which closes its connections abruptly."""
        with suppress(ManagementError):
            self._wait_until_idle(self.version, DRAIN_SECONDS)
        self._java.terminate()
        self.wait(END_SECONDS)

    def __enter__(self) -> Self:
        try:
            self._enter()
        except OSError as error:
            raise TorchServeError(
                f"TorchServe cannot be started ({error}): set TMPDIR to a folder with free space for temporary files"
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
            canary = canary_path(self.port)
            words = ["/bin/sh", "-c", _WATCHDOG, str(folder), str(canary)]
            watchdog = subprocess.Popen(words, stdin=subprocess.PIPE, process_group=0)
            stack.callback(canary.unlink, missing_ok=True)
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
        self._wait_until(self._management.answers, deadline, "TorchServe", self.log.failures)
        try:
            self._load(self.mar, self._golden)
            self._wait_until(
                lambda: self._golden.is_answered(self.url, 5.0), deadline, str(self.mar), self.log.failures
            )
        except (GoldenError, ManagementError) as error:
            raise TorchServeError(f"{self.mar} cannot be served: {error}") from error
        write_canary(self.port, self.url, self._golden)

    def _load(self, mar: Path, golden: Golden) -> None:
        failures = self.log.failures
        self._management.register(mar.name)
        deadline = time.monotonic() + self.timeout
        self._wait_until(lambda: self._management.loaded(golden.version), deadline, str(mar), failures)

    def _wait_until(self, done: Callable[[], bool], deadline: float, what: str, failures: int) -> None:
        """Wait until `done`; TorchServeError if TorchServe prints a failure, ends, or takes too long."""
        while not done():
            if (status := self._java.poll()) is not None:
                self._output.join(timeout=5)
                raise TorchServeError(f"TorchServe ended with status {status}; {self.log.tail()}")
            if self.log.failures > failures:
                time.sleep(0.2)  # for the rest of its output
                raise TorchServeError(f"{what} does not load; {self.log.tail()}")
            if time.monotonic() > deadline:
                raise TorchServeError(f"{what} is not ready after {self.timeout:g} s; {self.log.tail()}")
            time.sleep(_POLL_SECONDS)

    def _remove(self, version: str) -> None:
        """Remove a version that is no longer the default, when it is idle."""
        with suppress(ManagementError):  # the server is ending, or has ended
            self._wait_until_idle(version, self.timeout)
            self._management.remove(version)

    def _wait_until_idle(self, version: str, seconds: float) -> None:
        """Wait until a version's queue has been empty for a while: its last batch is answered then."""
        busy = began = time.monotonic()
        while time.monotonic() - busy < _IDLE_SECONDS and time.monotonic() - began < seconds:
            if self._management.pending(version):
                busy = time.monotonic()
            time.sleep(_POLL_SECONDS)


def _read(mar: Path, version: str | None) -> Golden:
    try:
        golden = read_golden(mar)
    except GoldenError as error:
        raise TorchServeError(str(error)) from error
    if version not in (None, golden.version):
        raise TorchServeError(f"{mar} is of version {golden.version}, and not of {version}: run make run")
    return golden


def _kill_group(watchdog: subprocess.Popen[bytes]) -> None:
    os.killpg(watchdog.pid, signal.SIGKILL)  # the watchdog, and any process that Java left
    watchdog.communicate()
