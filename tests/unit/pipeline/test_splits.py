"""`python -m pipeline splits`: each image with its split and why, as a table and as JSON, and nothing written."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from steps.common.images.dataset import read_split
from steps.preprocess.preprocess import preprocess
from tests.support.examples import PARAMS, write_images

FOLDER = {**PARAMS["data"], "source": "folder"}


@pytest.fixture
def words(volumes: Path, tmp_path: Path) -> list[str]:
    """The command for a folder of three classes, one of whose files is no image."""
    folder = volumes / "data/images/train"
    write_images(folder, {"a": "0", "b": "1", "c": "2"}, count=20)
    (folder / "a/notes.txt").write_text("no image")
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({**PARAMS, "data": FOLDER}))
    return ["splits", "--volumes", str(volumes), "--params", str(params)]


def test_json_says_what_a_run_does(words: list[str], volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(row.keys() == {"name", "label", "split", "group", "key", "why"} for row in rows)
    said = {row["name"]: row["split"] for row in rows}
    assert len(said) == 61
    ids = preprocess(FOLDER)
    for split in ("train", "validation", "test"):
        assert sorted(read_split(ids[split]).names) == sorted(name for name, one in said.items() if one == split)
    [unreadable] = [row for row in rows if row["split"] == "left out"]
    assert (unreadable["name"], unreadable["key"]) == ("train/a/notes.txt", "")
    assert unreadable["why"].startswith("not-an-image")


def test_no_draw_is_kept(words: list[str], volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert not (volumes / "data/splits").exists()
    told = capsys.readouterr().out
    assert "by hash" in told
    assert next(line.split() for line in told.splitlines() if line.startswith("all "))[-1] == "1"


def test_a_missing_folder_is_said_in_one_sentence(
    volumes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({**PARAMS, "data": FOLDER}))
    assert main(["splits", "--volumes", str(volumes), "--params", str(params)]) != 0
    assert capsys.readouterr().err.count("\n") == 1
