"""One TorchServe process that serves one model archive: started, known to answer, and stopped without a trace.

Reads the archive; all that TorchServe writes is in a temporary folder, except its log.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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

    def ready(self) -> bool:
        """Whether a prediction is answered, by this version, with the label known to be its answer."""
        try:
            status, answer = self.predict(self._canary, self.timeout)
        except OSError:
            return False
        if status != 200:
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

    def __enter__(self) -> Self:
        self.port = launch.claim(self.host, self.port)
        # The name of a worker's socket in it must stay under 104 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="ts-"))
        self._start()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End TorchServe: by itself within seconds, else by force; and its workers and files."""
        if self._java.poll() is None:
            self._java.terminate()
            try:
                self._java.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass
        os.killpg(self._watchdog.pid, signal.SIGKILL)
        self._watchdog.communicate()
        self._java.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        command = launch.command(self.mar, self.name, self._folder)
        environment = launch.environment(self._folder, self.host, self.port, os.environ)
        with self.log.open("wb") as output:
            self._watchdog = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHDOG, self._folder], stdin=subprocess.PIPE, process_group=0
            )
            self._java = subprocess.Popen(
                command,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=self._watchdog.pid,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout
        while not self.ready():
            failed = log.failure(self.log)
            if self._java.poll() is not None:
                raise TorchServeError(f"TorchServe ended with status {self._java.returncode}; {log.tail(self.log)}")
            if failed:
                raise TorchServeError(f"{self.mar} does not load; {log.tail(self.log)}")
            if time.monotonic() > deadline:
                raise TorchServeError(f"{self.mar} is not ready after {self.timeout:g} s; {log.tail(self.log)}")
            time.sleep(0.02)


def _golden(mar: Path) -> tuple[str, bytes, str]:
    """The version in an archive, and an image with the label that this version gave it."""
    try:
        with zipfile.ZipFile(mar) as archive:
            version = json.loads(archive.read("model.json"))["version"]
            canary = json.loads(archive.read("golden.json"))[0]
        return version, base64.b64decode(canary["image"]), canary["label"]
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, TypeError, ValueError) as error:
        raise TorchServeError(f"{mar} is no model archive of this project ({error!r}): build it with make run") from error
