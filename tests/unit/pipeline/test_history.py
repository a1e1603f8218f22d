"""`python -m pipeline runs` and `diff`: what the volumes remember of runs, and two of them side by side."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.journal import Entry, Event, State, append
from contract.pointer import Record
from pipeline.__main__ import main
from pipeline.local.history import runs
from steps.common.models import embedding
from steps.common.store import MANIFEST
from steps.common.volumes import deploy_volume, model_volume
from tests.support import scene
from tests.support.pixels import Pixels

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """Volumes with two verdicts, on a model of nine digits that was deployed, then on one of ten and more images."""
    folder = tmp_path_factory.mktemp("kept") / "volumes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLUMES", str(folder))
        patch.setattr(embedding, "Network", Pixels)
        yield folder, _two_verdicts()


@pytest.fixture
def two(kept: tuple[Path, list[str]], volumes: Path) -> list[str]:
    """The ids of the two verdicts, on volumes of the test's own."""
    shutil.copytree(kept[0], volumes)
    return kept[1]


def _two_verdicts() -> list[str]:
    deploy_volume().mkdir(parents=True)
    validation, test = scene.split(*scene.digits(80, 2)), scene.split(*scene.digits(60, 4))
    first, second = (scene.split(*scene.digits(0, *what)) for what in ((10, "012345678"), (12, "0123456789")))
    ids = []
    for train, gate in ((first, {}), (second, {"min_class_images": 1})):
        made = scene.model(train, validation, train)
        scene.verdict_on(test, made, **gate)
        [id] = {path.name for path in (model_volume() / "verdict").glob("[!.]*")} - set(ids)
        ids.append(id)
        if len(ids) == 1:
            record = Record(name="m", version="v1", mar="m.mar", verdict=id, network=made.network, index=made.index)
            request = Entry(
                at="t", by="a", state=State.REQUESTED, version="v1", event=Event.DEPLOYED, before=None, record=record
            )
            append(deploy_volume(), request)
            for state in (State.POINTED, State.CONFIRMED):
                append(deploy_volume(), Entry(at="t", by="a", state=state, version="v1"))
    return ids


def asked(capsys: Captured, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_runs_are_listed_with_what_changed(two: list[str], volumes: Path, capsys: Captured) -> None:
    found = json.loads(asked(capsys, "runs", "--volumes", str(volumes), "--json"))
    assert [run["id"] for run in found] == two
    assert [(run["version"], run["served"]) for run in found] == [("v1", True), (None, False)]
    assert found[0]["changes"] == ["the first run"]
    data = "train: 90 → 120 images, classes +9"
    assert {"gate.min_class_images 5 → 1", data} <= set(found[1]["changes"])
    assert not [change for change in found[1]["changes"] if change.startswith(("code", "train.", "index.", "numpy"))]
    told = asked(capsys, "runs", "--volumes", str(volumes))
    assert all(text in told for text in (*two, "DEPLOYED", "v1 (served)", data, f"{found[0]['accuracy']:.4f}"))


def test_looking_changes_nothing(two: list[str], volumes: Path, capsys: Captured) -> None:
    manifests = list((volumes / "model").glob(f"*/*/{MANIFEST}"))
    for path in manifests:
        os.utime(path, (1, 1))
    asked(capsys, "runs", "--volumes", str(volumes))
    asked(capsys, "diff", "--volumes", str(volumes))
    assert {path.stat().st_mtime for path in manifests} == {1}


def test_the_same_model_judged_again_is_no_run(two: list[str], volumes: Path) -> None:
    shelf = volumes / "model/verdict"
    again = shelf / "0123456789abcdef"
    again.mkdir()
    manifest = json.loads((shelf / two[0] / MANIFEST).read_text())
    manifest["inputs"]["champion"] = manifest["inputs"]["evaluation"]
    for name in manifest["files"]:
        (again / name).write_bytes((shelf / two[0] / name).read_bytes())
    for changed, count in ({"created": "9999"}, 2), ({"created": "9999", "code": "other"}, 3):
        (again / MANIFEST).write_text(json.dumps(manifest | changed))
        assert len(runs(volumes)) == count


def test_a_damaged_verdict_is_left_out(two: list[str], volumes: Path) -> None:
    path = volumes / "model/verdict" / two[0] / "verdict.json"
    path.write_bytes(b"[" + bytes(path.stat().st_size - 1))
    assert [run.id for run in runs(volumes)] == two[1:]


def test_two_runs_side_by_side(two: list[str], volumes: Path, capsys: Captured) -> None:
    words = ["diff", "--volumes", str(volumes)]
    told = asked(capsys, *words)
    assert all(text in told for text in (*two, "gate.min_class_images", "90 images of 9 classes", "class 9"))
    assert "train.scale" not in told
    compared: dict[str, Any] = json.loads(asked(capsys, *words, "--json"))["image_by_image"]
    answers = [np.load(volumes / "model/evaluation" / run.evaluation / "answers.npz") for run in runs(volumes)]
    assert compared["images"] == len(answers[0]["predicted"])
    assert compared["only_challenger"] >= 1
    assert f"{two[1]} alone: {two[1]} is {compared['result']}." in told.replace("\n", " ")
    swapped = json.loads(asked(capsys, *words, "--a", two[1][:6], "--b", "v1", "--json"))
    assert [swapped[side]["id"] for side in "ab"] == two[::-1]
    assert swapped["image_by_image"]["only_champion"] == compared["only_challenger"]


def test_pages_are_written(two: list[str], volumes: Path, tmp_path: Path, capsys: Captured) -> None:
    for command in ("runs", "diff"):
        page = tmp_path / f"{command}.html"
        assert str(page) in asked(capsys, command, "--volumes", str(volumes), "--html", str(page))
        assert all(id in page.read_text() for id in two)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["diff", "--a", "nothing"], "there is no run 'nothing'"),
        (["diff", "--a", ""], None),
        (["runs", "--html", "/nowhere/a.html"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_sentence(
    two: list[str], volumes: Path, capsys: Captured, words: list[str], says: str | None
) -> None:
    status = main([*words, "--volumes", str(volumes)])
    assert status == (2 if says else 0)
    error = capsys.readouterr().err
    assert says is None or (says in error and error.count("\n") == 1)


def test_without_runs_it_is_said_what_makes_one(volumes: Path, capsys: Captured) -> None:
    assert "make run" in asked(capsys, "runs", "--volumes", str(volumes))
    assert main(["diff", "--volumes", str(volumes)]) == 2
    assert "there are 0 runs" in capsys.readouterr().err
