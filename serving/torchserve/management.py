"""TorchServe's management API, which has no address on any network: a socket in a private folder, where that exists.

Reads and writes no files.
"""

import json
import socket
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from contract.errors import ProjectError
from serving.torchserve.batching import DELAY_MILLISECONDS

_SECONDS = 30


class ManagementError(ProjectError):
    """TorchServe refuses, or does not answer."""


class Management:
    """Registers, describes and removes versions of one model; `address` is a socket's path, or a port of loopback."""

    def __init__(self, address: Path | int, name: str) -> None:
        self._address = address
        self._path = f"/models/{quote(name, safe='')}"
        self._name = name

    def answers(self) -> bool:
        """Whether the API can be asked yet."""
        try:
            self._ask("GET", "/models")
        except ManagementError:
            return False
        return True

    def register(self, mar: str) -> None:
        """Begin to load an archive of the model store; whether it does so well is for `loaded` to say."""
        options = {"url": mar, "model_name": self._name, "max_batch_delay": DELAY_MILLISECONDS}
        self._ask("POST", "/models?" + urlencode({**options, "initial_workers": 1, "synchronous": "false"}))

    def loaded(self, version: str) -> bool:
        """Whether a version has as many workers as it shall have, all of them ready."""
        [state] = self._ask("GET", f"{self._path}/{quote(version, safe='')}")
        workers = state["workers"]
        return len(workers) >= state["minWorkers"] > 0 and all(each["status"] == "READY" for each in workers)

    def pending(self, version: str) -> int:
        """How many requests wait for a version."""
        [state] = self._ask("GET", f"{self._path}/{quote(version, safe='')}")
        return int(state["jobQueueStatus"]["pendingRequests"])

    def make_default(self, version: str) -> None:
        """Let requests that name no version be answered by this one."""
        self._ask("PUT", f"{self._path}/{quote(version, safe='')}/set-default")

    def remove(self, version: str) -> None:
        """Stop the workers of a version, and forget it."""
        self._ask("DELETE", f"{self._path}/{quote(version, safe='')}")

    def _ask(self, method: str, path: str) -> Any:
        connection = Connection(self._address)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as error:
            raise ManagementError(f"TorchServe's management does not answer ({error!r})") from error
        finally:
            connection.close()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ManagementError(str(answer.get("message", body.decode(errors="replace"))))
        return answer


class Connection(HTTPConnection):
    """HTTP to TorchServe, over a socket of its own folder or a port of loopback."""

    def __init__(self, address: Path | int) -> None:
        port = address if isinstance(address, int) else None
        super().__init__("127.0.0.1", port, timeout=_SECONDS)
        self._socket_path = None if isinstance(address, int) else str(address)

    def connect(self) -> None:
        if self._socket_path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._socket_path)
