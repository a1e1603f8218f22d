"""Workers that are gone for good come back: by a reload of the version, then by restarts with growing pauses."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from serving import supervise
from serving.connection import send
from serving.log import Log
from serving.server import Server
from serving.supervise import Supervisor
from tests.support.model_archive import CLASSES, NAME, archive, picture, png, write_model
from tests.support.torchserve_process import processes

pytestmark = pytest.mark.slow

# While the file exists no worker starts, as without memory; if it names a TorchServe, none of that one.
FAILING = """

import os
from pathlib import Path as _Path

_initialize = Handler.initialize


def _failing(self, context):
    path = _Path({path!r})
    if path.exists() and path.read_text() in ("", os.environ["TMPDIR"]):
        raise MemoryError("no memory for the model")
    _initialize(self, context)


Handler.initialize = _failing
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """While this file exists no worker starts."""
    return tmp_path / "broken"


@pytest.fixture
def server(tmp_path: Path, broken: Path) -> Iterator[Server]:
    folder = write_model(tmp_path / "model")
    with (folder / "handler.py").open("a") as handler:
        handler.write(FAILING.format(path=str(broken)))
    config = folder / "model-config.yaml"
    config.write_text(config.read_text().replace("maxRetryTimeoutInSec: 300", "maxRetryTimeoutInSec: 1"))
    mar = archive(folder, tmp_path / "store/model.mar")
    with Server(mar, NAME, log=Log(tmp_path / "log"), timeout=60) as running:
        yield running


@pytest.fixture
def supervisor(server: Server, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(supervise, "GONE_SECONDS", 3.0)
    monkeypatch.setattr(supervise, "FIRST_PAUSE", 0.5)
    return Supervisor(server, server.log)


def until(done: Callable[[], object], supervisor: Supervisor, server: Server, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, server.log.tail()
        supervisor.poll()
        server.tend()
        time.sleep(0.1)


def kill_workers(server: Server) -> None:
    for each in processes(server)[1:]:
        each.kill()


def ping(server: Server) -> int:
    return send("GET", f"http://127.0.0.1:{server.port}/ping", timeout=10).status


def test_a_reload_and_then_restarts_bring_workers_back(
    server: Server, supervisor: Supervisor, broken: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ping(server) == 200
    java = server.torchserve.process
    broken.touch()
    kill_workers(server)
    repairs = 'serving_repairs_total{action="%s",result="%s"}'
    until(lambda: repairs % ("restart", "failed") in server.monitor.render().decode(), supervisor, server)
    metrics = server.monitor.render().decode()
    assert f"{repairs % ('reload', 'failed')} 1.0" in metrics
    assert not psutil.pid_exists(java)
    time.sleep(0.6)
    assert ping(server) == 503
    status, answer = server.predict(png(picture(0)))
    assert (status, answer["error"]["rule"]) == (503, "unavailable")
    broken.unlink()
    until(server.is_ready, supervisor, server)
    until(lambda: server.workers() == (2, 2), supervisor, server)
    supervisor.poll()
    assert server.predict(png(picture(2)))[1]["label"] == CLASSES[2]
    time.sleep(0.6)
    assert ping(server) == 200
    said = capfd.readouterr()
    print(said.err)
    assert "2 of 2 workers are gone for 3 s: reload of" in said.err
    assert "the reload failed, the next try follows in " in said.err
    assert "all workers are there again" in said.out


def test_while_one_worker_answers_nothing_is_interrupted(server: Server, supervisor: Supervisor, broken: Path) -> None:
    """One of two is gone for good: another TorchServe takes over, and no request fails."""
    broken.write_text(str(server.torchserve.folder))
    processes(server)[1].kill()
    java, stop = server.torchserve.process, []

    def ask_on() -> set[int]:
        found = set()
        while not stop:
            found.add(server.predict(png(picture(1)))[0])
        return found

    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(ask_on) for _ in range(2)]
        try:
            until(lambda: server.torchserve.process != java and server.workers() == (2, 2), supervisor, server)
            until(lambda: not psutil.pid_exists(java), supervisor, server)
        finally:
            stop.append(True)
        assert [each.result() for each in asked] == [{200}, {200}]
