"""A TorchServe process that serves one model to this machine: start, readiness, another version, end.

Reads archives of one model store. TorchServe writes to a private folder only, except for its log. It listens on Unix
sockets in that folder, or on ports of the loopback address that ask for a key; serving/front is what clients reach.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from serving import client
from serving.connection import send_local
from serving.golden import Golden, GoldenError, read_golden
from serving.log import Log
from serving.system.folder import private_folder
from serving.system.group import Group
from serving.torchserve import launch
from serving.torchserve.launch import TorchServeError
from serving.torchserve.management import Management, ManagementError

__all__ = ["TorchServe", "TorchServeError"]

WORKERS = 2  # that answer requests, each in one thread
_POLL_SECONDS = 0.02
_CANARY_SECONDS = 5.0
END_SECONDS = 10.0  # the longest wait for TorchServe to end


class TorchServe:
    """A TorchServe that runs within a `with` block; the block is entered when the canary has been answered.

    Args:
        mar: The model archive, in its model store.
        name: The model's name, part of the URL.
        log: For the output of TorchServe.
        version: The version that the archive must have; any if not given.
        timeout: Seconds to start, and to load a model.
        collect: What serving/model/collector.py reads; None if no images are kept.
        workers: How many answer. An older archive says itself how many, and this is not heard.

    Raises:
        TorchServeError: The archive is unusable; on entering the block: the model cannot be served.
    """

    def __init__(
        self,
        mar: Path,
        name: str,
        *,
        log: Log,
        version: str | None = None,
        timeout: float = 120.0,
        collect: str | None = None,
        workers: int = WORKERS,
    ) -> None:
        self.mar = mar.resolve()
        self.name = name
        self.log = log
        self.timeout = timeout
        self._collect = collect
        self._workers = workers
        self._golden = _read(self.mar, version)
        self._failures = 0  # that TorchServe has printed

    @property
    def version(self) -> str:
        """The version that answers."""
        return self._golden.version

    @property
    def folder(self) -> Path:
        """The folder for temporary files of TorchServe and its workers."""
        return self._folder

    @property
    def process(self) -> int:
        """Java's process id."""
        return self._java.pid

    @property
    def inference(self) -> Path | int:
        """The address for predictions: the path of a Unix socket, or a port of the loopback address."""
        return launch.address(self._folder, self._ports, "TS_INFERENCE_ADDRESS")

    @property
    def inference_key(self) -> str | None:
        """The key that requests for predictions need; None on a Unix socket."""
        return self._key("inference")

    def metrics(self) -> bytes:
        """TorchServe's own metrics, in Prometheus's text format; none while it starts or ends."""
        headers = {"Authorization": f"Bearer {key}"} if (key := self._key("management")) else {}
        try:
            address = launch.address(self._folder, self._ports, "TS_METRICS_ADDRESS")
            found = send_local(address, "GET", "/metrics", headers=headers)
        except OSError:
            return b""
        return found.body if found.status == 200 else b""

    def ask(self, path: str, image: bytes, timeout: float = 60.0) -> client.Answer:
        """Ask for a prediction, as a health check.

        Args:
            path: The path for predictions.
            image: The bytes of an image file.
            timeout: Seconds.

        Returns:
            HTTP status and JSON, as of `client.predict`.
        """
        headers = {client.PROBE: "1"} | ({"Authorization": f"Bearer {key}"} if (key := self.inference_key) else {})
        found = send_local(self.inference, "PUT", path, body=image, headers=headers, timeout=timeout)
        return found.status, client.read_answer(found.body, found.reason)

    def check(self) -> list[dict[str, Any]]:
        """Ask all golden predictions; the answers, in the order of the items. `GoldenError` at the first wrong one."""
        return self._golden.check(self._path(), self.ask)

    def is_right(self) -> bool:
        """Whether the canary is answered right."""
        golden = self._golden
        with suppress(GoldenError, OSError):
            if golden.is_answered(f"{self._path()}/{golden.version}", _CANARY_SECONDS, self.ask):
                return True
        return golden is not self._golden and self.is_right()  # the version was changed meanwhile

    def workers(self) -> tuple[int, int]:
        """How many workers are READY, and how many there should be; `ManagementError` if TorchServe does not say."""
        return self._management.workers(self.version)

    def load(self, mar: Path, version: str) -> None:
        """Load another version beside this one, and check its golden predictions.

        Args:
            mar: Another archive of the same model store.
            version: The version that it must have.

        Raises:
            TorchServeError: It cannot be served.
        """
        golden, old = _read(mar, version), self._golden
        if golden.version == old.version:
            raise TorchServeError(f"version {golden.version} is served already")
        try:
            self._load(mar, golden)
            golden.check(f"{self._path()}/{golden.version}", self.ask)
        except Exception as error:
            self.remove(golden.version)
            room = f"; is there room in {self.folder}?" if "Failed to save model" in str(error) else ""
            raise TorchServeError(f"{mar} cannot be served, {old.version} still is: {error}{room}") from error
        self._loaded = (golden, mar)

    def promote(self) -> str:
        """Let the version that was loaded last answer from now on.

        Returns:
            The version before, which is still loaded: to be removed once nothing waits in it.

        Raises:
            TorchServeError: TorchServe refuses; the old version still answers.
        """
        (golden, mar), old = self._loaded, self._golden
        try:
            self._management.make_default(golden.version)
        except ManagementError as error:
            with suppress(ManagementError):
                self._management.make_default(old.version)
            self.remove(golden.version)
            raise TorchServeError(f"{mar} cannot be served, {old.version} still is: {error}") from error
        self._golden, self.mar = golden, mar
        return old.version

    def remove(self, version: str) -> None:
        """Remove a version that does not answer any more; what waits in it would be lost."""
        with suppress(ManagementError):  # it is ending, or has ended
            self._management.remove(version)

    def reload(self) -> None:
        """Load the version that answers once more, when its workers are gone; TorchServeError if that fails."""
        self.remove(self.version)
        try:
            self._load(self.mar, self._golden)
        except ManagementError as error:
            raise TorchServeError(f"{self.mar} cannot be loaded again: {error}") from error

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for TorchServe to end by itself: its exit status, or None if it still runs after `timeout` seconds."""
        try:
            return self._java.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """End TorchServe, which closes its connections abruptly."""
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
            self._folder = folder = private_folder("ts-")
            group = stack.enter_context(Group(folder))
            launch.check_length(folder)
            (folder / "metrics").mkdir()
            os.mkfifo(folder / "requests")
            stack.callback(self.log.follow_requests(folder / "requests"))
            self._ports = launch.free_ports()
            self._java = group.start(
                launch.command(self.mar.parent, folder),
                cwd=folder,
                env=launch.environment(folder, self._ports, os.environ, self._collect),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            stack.callback(self._java.wait)
            stack.callback(self._java.kill)
            assert self._java.stdout is not None  # noqa: S101 - for mypy: it is a pipe
            self._output = self.log.follow_java(self._java.stdout, self._count_failure)
            self._start()
            self._running = stack.pop_all()

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start(self) -> None:
        deadline = time.monotonic() + self.timeout
        self._wait_until(self._manages, deadline, "TorchServe", self._failures)
        try:
            self._load(self.mar, self._golden)
            self._wait_until(
                lambda: self._golden.is_answered(self._path(), _CANARY_SECONDS, self.ask),
                deadline,
                str(self.mar),
                self._failures,
            )
        except (GoldenError, ManagementError) as error:
            raise TorchServeError(f"{self.mar} cannot be served: {error}") from error

    def _count_failure(self) -> None:
        self._failures += 1

    def _manages(self) -> bool:
        address = launch.address(self._folder, self._ports, "TS_MANAGEMENT_ADDRESS")
        self._management = Management(address, self.name, self._key("management"))
        return self._management.answers()

    def _load(self, mar: Path, golden: Golden) -> None:
        failures = self._failures
        self._management.register(mar.name, self._workers)
        deadline = time.monotonic() + self.timeout
        self._wait_until(lambda: self._management.loaded(golden.version), deadline, str(mar), failures)

    def _wait_until(self, done: Callable[[], bool], deadline: float, what: str, failures: int) -> None:
        """Wait until `done`; TorchServeError if TorchServe prints a failure, ends, or takes too long."""
        while not done():
            if (status := self._java.poll()) is not None:
                self._output.join(timeout=5)
                raise TorchServeError(f"TorchServe ended with status {status}; {self.log.tail()}")
            if self._failures > failures:
                time.sleep(0.2)  # for the rest of its output
                raise TorchServeError(f"{what} does not load; {self.log.tail()}")
            if time.monotonic() > deadline:
                raise TorchServeError(f"{what} is not ready after {self.timeout:g} s; {self.log.tail()}")
            time.sleep(_POLL_SECONDS)

    def _path(self) -> str:
        return f"/predictions/{self.name}"

    def _key(self, kind: str) -> str | None:
        """A key that TorchServe wrote; None on Unix sockets, or before it has."""
        try:
            return str(json.loads((self._folder / launch.KEYS).read_text())[kind]["key"])
        except (OSError, ValueError, KeyError):
            return None


def _read(mar: Path, version: str | None) -> Golden:
    try:
        golden = read_golden(mar)
    except GoldenError as error:
        raise TorchServeError(str(error)) from error
    if version not in (None, golden.version):
        raise TorchServeError(f"{mar} is of version {golden.version}, and not of {version}: run make run")
    return golden
