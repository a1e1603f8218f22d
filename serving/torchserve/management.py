"""Client of TorchServe's management API, which only this machine can reach; reads and writes no files."""

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from contract.errors import ProjectError
from serving.connection import send_local
from serving.torchserve.batching import DELAY_MILLISECONDS


class ManagementError(ProjectError):
    """TorchServe refuses, or does not answer."""


class Management:
    """Registers, describes and removes versions of one model. Its methods raise ManagementError.

    Args:
        address: The path of a Unix socket, or a port of the loopback address.
        name: The model's name.
        key: TorchServe's key for this API; none if it asks for none.
    """

    def __init__(self, address: Path | int, name: str, key: str | None = None) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._path = f"/models/{quote(name, safe='')}"
        self._name = name

    def answers(self) -> bool:
        """Whether the API answers yet."""
        try:
            self._ask("GET", "/models")
        except ManagementError:
            return False
        return True

    def register(self, mar: str, workers: int) -> None:
        """Start to load an archive of the model store in so many workers; returns at once, see `loaded`."""
        options = {"url": mar, "model_name": self._name, "max_batch_delay": DELAY_MILLISECONDS}
        self._ask("POST", "/models?" + urlencode({**options, "initial_workers": workers, "synchronous": "false"}))

    def workers(self, version: str) -> tuple[int, int]:
        """How many workers of a version are READY, and how many there should be."""
        [state] = self._ask("GET", self._path_of(version))
        return sum(each["status"] == "READY" for each in state["workers"]), max(int(state["minWorkers"]), 1)

    def loaded(self, version: str) -> bool:
        """Whether all workers of a version run and are READY."""
        ready, wanted = self.workers(version)
        return ready >= wanted

    def make_default(self, version: str) -> None:
        """Send requests without a version to this one."""
        self._ask("PUT", f"{self._path_of(version)}/set-default")

    def remove(self, version: str) -> None:
        """Stop a version's workers and unregister it."""
        self._ask("DELETE", self._path_of(version))

    def _path_of(self, version: str) -> str:
        return f"{self._path}/{quote(version, safe='')}"

    def _ask(self, method: str, path: str) -> Any:
        try:
            response = send_local(self._address, method, path, headers=self._headers)
        except OSError as error:
            raise ManagementError(f"TorchServe's management API does not answer ({error!r})") from error
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = {}
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise ManagementError(str(answer.get("message", response.body.decode(errors="replace"))))
        return answer
