"""`python -m serving start` with tiny models, for tests: start, predict, switch, stop."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self
from urllib.request import urlopen

import psutil

from serving.torchserve import launch
from tests.support.model_archive import CLASSES, NAME, ROOT, archive, picture, png, write_model

SERVING = [sys.executable, "-m", "serving"]
ONE, TWO = "1111aaaa", "2222bbbb"


def labels(version: str) -> list[str]:
    """The labels of a version: each version has its own, so an answer shows which one gave it."""
    return CLASSES if version == ONE else [f"{version} {name}" for name in CLASSES]


def write_version(folder: Path, version: str) -> Path:
    """Write a model's files, with the labels and golden predictions of this version."""
    write_model(folder, version)
    names = dict(zip(CLASSES, labels(version), strict=True))
    for path in (folder / "labels.json", folder / "golden.json"):
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            content["classes"] = labels(version)
        else:
            content = [{**item, "expected": names[item["expected"]], "label": names[item["label"]]} for item in content]
        path.write_text(json.dumps(content))
    return folder


class Volumes:
    """A deploy volume with a model store, records of versions, and a pointer."""

    def __init__(self, root: Path) -> None:
        self.root, self.volume = root, root / "deploy-model"
        (self.volume / "model-store").mkdir(parents=True)
        (self.volume / "versions").mkdir()

    def mar(self, version: str) -> Path:
        return self.volume / "model-store" / f"{version}.mar"

    def add(self, version: str, folder: Path | None = None) -> Path:
        """Add a version to the model store: the files in `folder` if given, otherwise a tiny model."""
        files = folder or write_version(self.root.with_name(f"{self.root.name}-{version}"), version)
        mar = archive(files, self.mar(version))
        (self.volume / "versions" / f"{version}.json").write_text(json.dumps(self.entry(version)))
        return mar

    def entry(self, version: str) -> dict[str, str]:
        mar = self.mar(version)
        sha256 = hashlib.sha256(mar.read_bytes()).hexdigest() if mar.exists() else "0" * 64
        return {"name": NAME, "version": version, "mar": mar.name, "sha256": sha256}

    def point(self, version: str, **more: Any) -> None:
        self.write_pointer(json.dumps(self.entry(version) | more))

    def write_pointer(self, text: str) -> None:
        new = self.volume / "new.json"
        new.write_text(text)
        os.replace(new, self.volume / "current.json")


def deployed(root: Path) -> Volumes:
    """A deploy volume with version ONE, which the pointer names."""
    volumes = Volumes(root)
    volumes.add(ONE)
    volumes.point(ONE)
    return volumes


class Start:
    """The process: a free port, a log in `folder`, and a folder for temporary files with a short path.

    With `pipe` its standard output is a pipe that nobody reads.
    """

    def __init__(
        self,
        volumes: Path,
        folder: Path,
        *,
        log: Path | None = None,
        temporary: Path | None = None,
        pipe: bool = False,
        wait: bool = False,
        **environment: str,
    ) -> None:
        [self.port, self.metrics_port, *_] = launch.free_ports()
        self.log, self.temporary = log or folder / "serving.log", temporary or Path(mkdtemp(prefix="t-"))
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "stdout", folder / "stderr"
        self.environment = {**os.environ, "VOLUMES": str(volumes), "TMPDIR": str(self.temporary), **environment}
        self.environment.pop("XDG_RUNTIME_DIR", None)
        words = ["start", "--port", self.port, "--log", self.log, "--metrics", f"127.0.0.1:{self.metrics_port}"]
        words += ["--wait"] * wait
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*SERVING, *map(str, words)],
                cwd=ROOT,
                env=self.environment,
                stdout=subprocess.PIPE if pipe else out,
                stderr=err,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def output(self) -> str:
        return self.out.read_text()

    def errors(self) -> str:
        return self.err.read_text()

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def until(self, done: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert self.process.poll() is None, self.errors()
            assert time.monotonic() < deadline, self.output() + self.errors()
            time.sleep(0.05)

    def until_ready(self) -> Self:
        self.until(lambda: "ready after" in self.output())
        return self

    def until_ended(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def predict(self, quarter: int = 0, headers: dict[str, str] | None = None) -> tuple[int, Any, str | None]:
        """Status, answer and x-request-id."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/predictions/{NAME}", png(picture(quarter)), headers or {})
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.getheader("x-request-id")
        finally:
            connection.close()

    def serves(self, version: str) -> bool:
        """Whether all four quarters get the right answer of this version."""
        for quarter, label in enumerate(labels(version)):
            status, answer, _ = self.predict(quarter)
            if (status, answer.get("label"), answer.get("model")) != (200, label, {"name": NAME, "version": version}):
                return False
        return True

    def probe(self, *words: str) -> int:
        """The exit status of a probe; the output is printed if it fails."""
        command = [*SERVING, "probe", "--port", str(self.port), *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout + done.stderr)
        return done.returncode

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as response:
            text: bytes = response.read()
        return text.decode()

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def workers(self) -> list[psutil.Process]:
        return [each for each in self.children() if "model_service_worker.py" in _words(each)]


def _words(process: psutil.Process) -> str:
    """The command line; empty if the process has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def gone(processes: list[psutil.Process], within: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=within)
    return not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]
