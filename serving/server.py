"""One TorchServe process that serves one model archive: started, known to answer, and stopped without a trace.

Reads the archive; all that TorchServe writes is in a temporary folder, except its log.
"""

import base64
import json
import os
import signal
import subprocess
import time
import zipfile
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

from serving import client, launch, log
from serving.launch import TorchServeError

__all__ = ["TorchServe", "TorchServeError"]

# It leads the process group that Java and the workers join, and reads a pipe that only we can write to: whatever
# ends us, kill -9 included, ends the pipe, and the whole group with it.
_WATCHDOG = 'read -r _; rm -rf "$0"; kill -KILL 0'


class TorchServe:
    """Serves `mar` under `name` within a `with` block, which is entered once a canary prediction was answered.

    With port 0 a free port is taken; management, metrics and gRPC get free ports of the loopback address. `log`
    is the file that TorchServe's log goes to. Raises TorchServeError.
    """

    def __init__(
        self, mar: Path, name: str, port: int = 0, host: str = "127.0.0.1", *, log: Path, timeout: float = 120.0
    ) -> None:
        self.mar = mar.resolve()
        self.name = name
        self.log = log
        self.timeout = timeout
        self.host, self.port = host, port
        self.version, self._canary, self._expected = _golden(self.mar)

    @property
    def url(self) -> str:
        """The address that answers predictions."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - it is not bound here
        return f"http://{host}:{self.port}/predictions/{self.name}"

    def predict(self, image: bytes, timeout: float = 60.0) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the JSON answered for one image file."""
        return client.predict(self.url, image, timeout)

    def canary(self, timeout: float = 60.0) -> dict[str, Any] | None:
        """What is answered for an image with a known answer; None if it is an error or nothing."""
        try:
            status, answer = self.predict(self._canary, timeout)
        except OSError:
            return None
        return answer if status == HTTPStatus.OK else None

    def healthy(self, timeout: float = 60.0) -> bool:
        """Whether a prediction is answered, with the label known to be its answer if this version answers.

        Another version may, which is served until the server starts anew.
        """
        answer = self.canary(timeout)
        if answer is None:
            return False
        return answer.get("model", {}).get("version") != self.version or answer.get("label") == self._expected

    def ready(self, timeout: float = 60.0) -> bool:
        """Whether a prediction is answered, by this version, with the label known to be its answer."""
        answer = self.canary(timeout)
        if answer is None:
            return False
        got = (answer.get("model", {}).get("version"), answer.get("label"))
        if got != (self.version, self._expected):
            raise TorchServeError(
                f"{self.mar} answers its canary image with version and label {got}, not "
                f"{(self.version, self._expected)}: build the archive again"
            )
        return True

    def wait(self) -> int:
        """The status of TorchServe once it has ended by itself."""
        return self._java.wait()

    def drain(self, timeout: float = 10.0) -> None:
        """Let TorchServe answer what it has accepted and end; it wants two silent seconds for that."""
        self._java.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._java.wait(timeout)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # A worker's socket lies in it, and the name of a socket has at most 103 bytes.
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="ts-", ignore_cleanup_errors=True)))
            ports = launch.free_ports(self.host, self.port)
            self.port = ports[0]
            command = launch.command(self.mar, self.name, folder)
            environment = launch.environment(folder, self.host, ports, os.environ)
            output = stack.enter_context(self._open_log())
            watchdog = subprocess.Popen(["/bin/sh", "-c", _WATCHDOG, folder], stdin=subprocess.PIPE, process_group=0)
            stack.callback(_kill_group, watchdog)
            self._java = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=watchdog.pid,
            )
            stack.callback(self._java.wait)
            stack.callback(self._java.kill)
            self._wait_until_ready()
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _open_log(self) -> IO[bytes]:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            return self.log.open("wb")
        except OSError as error:
            raise TorchServeError(
                f"TorchServe's log {self.log} cannot be written ({error.strerror}): choose another file with --log"
            ) from error

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        # TorchServe keeps a request for a worker that is loading, so the first answer comes at once; but it keeps it
        # for one that dies again and again, too. So look up in between, less often where the model seems slow.
        while not self.ready(max(1.0, (time.monotonic() - began) / 2)):
            if self._java.poll() is not None:
                raise TorchServeError(f"TorchServe ended with status {self._java.returncode}; {log.tail(self.log)}")
            if log.failure(self.log):
                raise TorchServeError(f"{self.mar} does not load; {log.tail(self.log)}")
            if time.monotonic() - began > self.timeout:
                raise TorchServeError(f"{self.mar} is not ready after {self.timeout:g} s; {log.tail(self.log)}")
            time.sleep(0.02)


def _kill_group(watchdog: subprocess.Popen[bytes]) -> None:
    os.killpg(watchdog.pid, signal.SIGKILL)  # itself, and whatever Java left
    watchdog.communicate()


def _golden(mar: Path) -> tuple[str, bytes, str]:
    """The version in an archive, and an image with the label that this version gave it."""
    try:
        with zipfile.ZipFile(mar) as archive:
            version = json.loads(archive.read("model.json"))["version"]
            canary = json.loads(archive.read("golden.json"))[0]
        return version, base64.b64decode(canary["image"]), canary["label"]
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, TypeError, ValueError) as error:
        raise TorchServeError(f"{mar} is no archive of this project ({error!r}): build it with make run") from error
