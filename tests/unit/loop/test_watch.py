"""make watch: a run for each change that has settled, none without, later tries after failures, an end in order."""

import signal
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from contract.errors import InputError, ProjectError
from contract.loop.labels import Action, Line, labels_path
from pipeline.loop import watch as module
from pipeline.loop.watch import Ended, Watch, look, run, watch
from steps.deploy.release.actor import now
from tests.support.lockless import no_locks
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

SECONDS = 10.0


class Scene:
    """A watch of made-up data: what a look finds, how the next runs end, and what was said."""

    def __init__(self) -> None:
        self.data: str | ProjectError = "a"
        self.ends: list[Ended] = []
        self.said: list[str] = []
        self.runs, self.now = 0, 0.0
        self.watch = Watch(self._look, self._run, self.said.append, SECONDS)

    def _look(self) -> str:
        if isinstance(self.data, ProjectError):
            raise self.data
        return self.data

    def _run(self) -> Ended:
        self.runs += 1
        return self.ends.pop(0) if self.ends else Ended(True, "DEPLOYED 1: because")

    def looks(self, count: int = 1) -> int:
        """Look so often, SECONDS apart; the number of runs so far."""
        for _ in range(count):
            self.watch.once(self.now)
            self.now += SECONDS
        return self.runs


def test_it_runs_at_the_beginning_and_then_for_each_change() -> None:
    scene = Scene()
    assert scene.looks(5) == 1
    scene.data = "b"
    assert scene.looks() == 1  # files may still be on their way
    assert scene.looks(5) == 2
    assert scene.said == [
        "a run starts: the watch begins",
        "DEPLOYED 1: because",
        "the data change: a run starts when they have been still for 10 s",
        "a run starts: the data changed",
        "DEPLOYED 1: because",
    ]


def test_data_that_never_rest_are_not_waited_for_for_ever() -> None:
    scene = Scene()
    scene.looks()
    for number in range(11):
        scene.data = f"change {number}"
        scene.looks()
    assert scene.runs == 2


def test_a_failed_run_is_tried_again_later_and_later_and_at_once_when_the_data_change() -> None:
    scene = Scene()
    scene.ends = [Ended(False, "train failed: no memory")] * 3
    assert scene.looks() == 1
    assert scene.said[-1] == "the run failed: train failed: no memory; the next try is in 20 s, or when the data change"
    assert scene.looks() == 1
    assert scene.looks() == 2
    assert scene.looks(3) == 2
    assert scene.looks() == 3
    scene.data = "b"
    assert scene.looks(2) == 4
    assert scene.looks(100) == 4  # it succeeded


def test_the_wait_after_failures_has_a_limit() -> None:
    scene = Scene()
    scene.ends = [Ended(False, "x")] * 20
    scene.looks(5000)
    assert scene.runs > 20
    assert any("the next try is in 3600 s" in line for line in scene.said)


def test_data_that_cannot_be_looked_at_are_said_once_and_end_nothing() -> None:
    scene = Scene()
    scene.data = ProjectError("params.yaml: is not YAML")
    assert scene.looks(3) == 0
    assert scene.said == ["no run is started: params.yaml: is not YAML"]
    scene.data = "a"
    assert scene.looks() == 1


def test_a_look_sees_images_and_parameters_and_no_other_file(volumes: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(PARAMS_FILE.read_text().replace("source: sample", "source: folder"))
    empty = look(params)
    image = volumes / "data/images/train/a/1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"1")
    one = look(params)
    assert len({empty, one}) == 2
    (volumes / "data/other").write_bytes(b"1")
    (image.parent / ".hidden").write_bytes(b"1")
    params.write_text(params.read_text() + "  # a comment\n")
    assert look(params) == one
    image.write_bytes(b"22")
    changed = look(params)
    image.rename(image.with_name("2.png"))
    renamed = look(params)
    params.write_text(params.read_text().replace("epochs: auto", "epochs: 3"))
    trained = look(params)
    assert len({one, changed, renamed, trained}) == 4
    params.write_text(params.read_text().replace("keep_days: 30", "keep_days: 31"))
    assert look(params) == trained


def test_a_look_sees_labels_from_review_whatever_the_source(volumes: Path) -> None:
    before = look(PARAMS_FILE)
    image = volumes / "data/images/train/9/1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"1")
    assert look(PARAMS_FILE) == before, "the sample has none of the other images"
    line = Line(id="1", at=now(), by="somebody", action=Action.LABEL, digest="1", label="9", file="train/9/1.png")
    labels_path(volumes / "data").write_bytes(line.encoded())
    assert look(PARAMS_FILE) != before


def test_the_second_watch_of_the_same_volumes_says_so(volumes: Path) -> None:
    volumes.mkdir()
    with FileLock(volumes / ".watch.lock"), pytest.raises(InputError, match="another make watch runs for"):
        watch(PROJECT_FILE, PARAMS_FILE, volumes, SECONDS)


def test_without_locks_a_watch_says_so_and_goes_on(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(_: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "look", look)
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(KeyboardInterrupt):
        watch(PROJECT_FILE, PARAMS_FILE, volumes, SECONDS)
    assert f"{volumes} has no locks that hold on every node" in capsys.readouterr().out


def test_how_a_run_ended_is_its_last_line() -> None:
    assert run([sys.executable, "-c", "print('one'); print('DEPLOYED 1: x')"]) == Ended(True, "DEPLOYED 1: x")
    failing = "import sys; print('error: train failed: x\\nlog: y', file=sys.stderr); sys.exit(1)"
    assert run([sys.executable, "-c", failing]) == Ended(False, "train failed: x log: y")
    assert run([sys.executable, "-c", "import sys; sys.exit(9)"]) == Ended(False, "it ended with status 9")


def test_an_interruption_reaches_the_run_and_waits_for_its_end(
    volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM, as of a service manager, and a run that inherits no ignored SIGINT."""
    script = f"""
import os, signal, sys, time
try:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
except KeyboardInterrupt:
    open({str(tmp_path / "ended")!r}, "w").write("in order")
    sys.exit(130)
"""
    run_command, before = run, signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(module, "run", lambda _: run_command([sys.executable, "-c", script]))
    with pytest.raises(KeyboardInterrupt):
        watch(PROJECT_FILE, PARAMS_FILE, volumes, SECONDS)
    assert (tmp_path / "ended").read_text() == "in order"
    assert signal.getsignal(signal.SIGTERM) is before
    FileLock(volumes / ".watch.lock").acquire(blocking=False)
