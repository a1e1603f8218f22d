"""gc beside a run: what the run uses stays, whatever gc has decided before; and a killed gc leaves nothing half."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from steps.common.errors import StepError
from steps.common.store import MANIFEST, produce, read
from steps.common.volumes import data_volume, model_volume
from steps.deploy.gc import delete as deletion
from steps.deploy.gc.delete import delete
from steps.deploy.gc.plan import plan
from tests.support.killing import killed_after
from tests.support.small_run import Run, is_complete, pass_days, small_run

_FORK = multiprocessing.get_context("fork")


def old_runs(volumes: Path) -> Run:
    """The first of some runs of long ago, which nothing needs any more."""
    first = small_run(data="a", keep=1)
    for data in "bc":
        small_run(data=data, keep=1)
    pass_days(volumes, 100)
    return first


def test_a_run_that_starts_after_the_decision_keeps_what_it_finds(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_runs(volumes)

    def planned(keep_days: int) -> Any:
        made = plan(keep_days)
        assert "network" in {item.kind for item in made.delete}
        assert read(model_volume(), "network", old.ids["network"]).path == old.path("network")
        return made

    monkeypatch.setattr(deletion, "plan", planned)
    made = delete(30)
    assert is_complete(old.path("network"))
    assert not old.path("index").exists()
    assert [item.why for item in made.keep if item.path == old.path("network")] == ["a run has begun to use it"]


def test_a_step_that_asks_while_gc_moves_an_artefact_away_waits_and_finds_none(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock, it would find the artefact, and the next step miss it."""
    old = old_runs(volumes)
    asked: list[threading.Thread] = []
    found: list[bool] = []
    original = deletion._without_name

    def ask() -> None:
        try:
            found.append(read(data_volume(), "dataset", old.ids["train"]).unchanged)
        except StepError:
            found.append(False)

    def slowly(path: Path) -> Any:
        if path == old.path("train"):
            asked.append(threading.Thread(target=ask))
            asked[0].start()
            asked[0].join(0.2)
            assert found == [], "it waits"
        return original(path)

    monkeypatch.setattr(deletion, "_without_name", slowly)
    delete(30)
    asked[0].join(10)
    assert found == [False]
    assert small_run(data="a", keep=1).anew >= {"train"}


def _steps(volumes: Path, ended: Any) -> None:
    """Find or make an artefact and read it afterwards, as two steps do, then let it become old; again and again."""
    while not ended.is_set():
        id = produce(
            volumes / "model",
            "network",
            "index",
            parameters={},
            inputs={},
            build=lambda folder: {"bytes": (folder / "content").write_text("content")},
            code=("steps.common.images.png",),
        ).id
        read(volumes / "model", "network", id)
        os.utime(volumes / "model/network" / id / MANIFEST, (0, 0))


@pytest.mark.slow
def test_a_step_reads_what_the_one_before_found_however_often_gc_runs(volumes: Path) -> None:
    ended = _FORK.Event()
    run = _FORK.Process(target=_steps, args=(volumes, ended))
    run.start()
    deleted = 0
    while run.is_alive() and deleted < 5:
        deleted += len(delete(1).delete)
    ended.set()
    run.join(30)
    assert (run.exitcode, deleted) == (0, 5)


@contextmanager
def building(volumes: Path, kind: str) -> Iterator[tuple[int, Path]]:
    """A process that builds an artefact until the end of the context: its id, and its half-built folder."""
    begun = _FORK.Event()

    def build(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("half")
        begun.set()
        signal.pause()
        return {}

    code = ("steps.common.images.png",)
    arguments: dict[str, Any] = {"parameters": {}, "inputs": {}, "build": build, "code": code}
    process = _FORK.Process(target=produce, args=(volumes / "model", kind, "index"), kwargs=arguments)
    process.start()
    assert begun.wait(30)
    try:
        yield process.pid or 0, next((volumes / "model" / kind).glob(".*.*"))
    finally:
        process.kill()
        process.join()


def test_what_is_being_built_and_what_was_used_before_that_stays_until_the_builder_is_killed(volumes: Path) -> None:
    old = old_runs(volumes)
    recent = small_run(data="d", keep=1)
    for data in "ef":
        small_run(data=data, keep=1)
    with building(volumes, "network") as (_, half):
        pass_days(volumes, 40)
        delete(30)
        assert half.is_dir()
        assert is_complete(recent.path("gallery")), "40 days ago, when the building began, it was just used"
        assert not old.path("gallery").exists()
    delete(30)
    assert not half.exists()
    assert not recent.path("gallery").exists()


@pytest.mark.slow
def test_a_killed_gc_leaves_nothing_half_and_the_next_one_goes_on(volumes: Path, tmp_path: Path) -> None:
    old_runs(volumes)
    current = small_run(data="c", keep=1)
    shutil.copytree(volumes, tmp_path / "before")
    number, was_killed = 0, True
    while was_killed:
        number += 1 if number < 6 else 15
        shutil.copytree(tmp_path / "before", volumes, dirs_exist_ok=True)  # what a killed one left stays
        was_killed = killed_after(number, lambda: delete(30))
        there = [path.parent for path in volumes.glob(f"*/*/[!.]*/{MANIFEST}")]
        assert [path for path in there if not is_complete(path)] == []
        assert all(map(is_complete, current.paths().values()))
    assert number > 20
    delete(30)
    hidden = {path.name for path in volumes.rglob(".*")}
    assert hidden == {".lock", ".usage.lock"}


def test_the_records_of_a_run_stay_complete_if_gc_is_killed(volumes: Path) -> None:
    small_run()
    folder = volumes / "model/runs/run-1"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text("{}")
    pass_days(volumes, 40)
    for number in range(1, 4):
        killed_after(number, lambda: delete(30))
    delete(30)
    assert list((volumes / "model/runs").iterdir()) == []
