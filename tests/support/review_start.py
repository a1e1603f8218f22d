"""Volumes in which a model is served, without a run; the review page in this process, and in a process of its own."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from contract.paths import ROOT
from contract.pointer import MODEL_STORE, Pointer, as_file, pointer_path
from tests.support.settings import PARAMS_FILE


def deployed(volumes: Path, mar: Path, version: str) -> None:
    """Let the pointer name this archive."""
    store = volumes / "deploy-model" / MODEL_STORE
    store.mkdir(parents=True, exist_ok=True)
    shutil.copy(mar, store / mar.name)
    pointer = Pointer(name="quarters", version=version, mar=mar.name, network="n", index="i")
    pointer_path(volumes / "deploy-model").write_bytes(as_file(pointer))


class Browser:
    """Asks an ASGI application in this process, and keeps its cookies."""

    def __init__(self, app: Any, base_url: str) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._client.post(path, **options))


class Review:
    """`python -m pipeline review` within a `with` block, and the address that it printed."""

    def __init__(self, volumes: Path) -> None:
        command = [sys.executable, "-m", "pipeline", "review", "--port=0", f"--params={PARAMS_FILE}"]
        self.process = subprocess.Popen(
            [*command, f"--volumes={volumes}"],
            cwd=ROOT,
            env={**os.environ, "LOGNAME": "reviewer"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def __enter__(self) -> Self:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                return self
        raise AssertionError(f"no address: {self.said}, status {self.process.wait()}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()
