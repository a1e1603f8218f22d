"""The supervisor: when it acts, what it does first, how its pauses grow; integration/serving has real workers."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serving import supervise
from serving.log import Log
from serving.supervise import FIRST_PAUSE, GONE_SECONDS, LONGEST_PAUSE, Supervisor
from serving.torchserve.launch import TorchServeError


class Clocked:
    """A server of which one knows how many workers are ready, and a clock."""

    version = "1"

    def __init__(self, ready: int) -> None:
        self.now, self.ready, self.works = 100.0, ready, False
        self.done: list[tuple[str, float]] = []
        self.counted: list[tuple[str, bool]] = []
        self.monitor = SimpleNamespace(count_repair=lambda action, succeeded: self.counted.append((action, succeeded)))

    def workers(self) -> tuple[int, int]:
        return self.ready, 2

    def reload(self) -> None:
        self._do("reload")

    def restart(self) -> None:
        self._do("restart")

    def _do(self, action: str) -> None:
        self.done.append((action, self.now))
        if not self.works:
            raise TorchServeError("still broken")
        self.ready = 2


def run(server: Clocked, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(supervise, "time", SimpleNamespace(monotonic=lambda: server.now))
    found: Any = server
    supervisor = Supervisor(found, Log(tmp_path / "log"))
    until = server.now + seconds
    while server.now < until:
        supervisor.poll()
        server.now += 1
    return supervisor


def test_nothing_is_done_about_workers_that_are_there_or_soon_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Clocked(ready=2)
    supervisor = run(server, 100, tmp_path, monkeypatch)
    for _ in range(5):
        server.ready = 1
        for _ in range(int(GONE_SECONDS) - 1):
            supervisor.poll()
            server.now += 1
        server.ready = 2
        supervisor.poll()
    assert server.done == []


def test_a_reload_comes_first_and_the_pauses_between_restarts_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Clocked(ready=0)
    run(server, 3000, tmp_path, monkeypatch)
    actions, times = zip(*server.done, strict=True)
    assert actions[0] == "reload"
    assert set(actions[1:]) == {"restart"}
    assert times[0] == 100 + GONE_SECONDS
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == [min(FIRST_PAUSE * 2**number, LONGEST_PAUSE) for number in range(len(pauses))]
    assert pauses[-1] == LONGEST_PAUSE
    assert server.counted == [(action, False) for action in actions]


def test_a_worker_that_answers_is_not_interrupted_by_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Clocked(ready=1)
    server.works = True
    run(server, 200, tmp_path, monkeypatch)
    assert [action for action, _ in server.done] == ["restart"]
    assert server.counted == [("restart", True)]
