"""Images that got their labels in review join a built-in source, and change nothing where there are none."""

from pathlib import Path

import numpy as np
import pytest

from contract.errors import InputError
from contract.events import Failed, parse
from contract.loop.labels import Action, Before, labels_path
from pipeline.loop.labels import Book, Given
from steps.common.images.dataset import read_split
from steps.preprocess.parameters import Data
from steps.preprocess.preprocess import preprocess
from tests.support.examples import PARAMS, write_images
from tests.support.model_archive import png

DATA = PARAMS["data"]
SPLITS = ("train", "validation", "test")
pytestmark = pytest.mark.usefixtures("few_digits")


def given(number: int) -> Given:
    """An image like no digit, and like no other of these."""
    data = png(np.random.default_rng(number).integers(0, 255, (28, 28), np.uint8))
    return Given(f"{number:064x}", data, None, Before("unknown", "one"), False, "unknown")


def label(count: int, part: str = "train", first: int = 0, name: str = "blot") -> list[str]:
    """Label images; their ids."""
    book = Book("light-on-dark", 10_000)
    lines = book.label([given(number) for number in range(first, first + count)], name, part)
    return [line.id for line in lines]


def names(ids: dict[str, str], *splits: str) -> list[str]:
    return sorted(name for split in splits for name in read_split(ids[split]).names if "#" not in name)


def test_the_sample_gains_a_class(volumes: Path) -> None:
    before = preprocess(DATA)
    undo = label(40)
    ids = preprocess(DATA)
    parts = {split: read_split(ids[split]) for split in SPLITS}
    assert len(names(ids, *SPLITS)) == 40
    assert all("blot" in part.classes for part in parts.values()), "labelled images are drawn like all others"
    assert ids["gallery"] == ids["train"]
    rows = parts["train"].rows
    [row, *_] = [row for row, name in enumerate(rows.names) if name.startswith("train/blot/")]
    assert rows.originals[row] == f"images/{rows.names[row]}", "the original is the file, kept once"
    assert parts["train"].original(row) == (volumes / "data/images" / rows.names[row]).read_bytes()
    Book("light-on-dark", 10_000).undo(undo)
    assert preprocess(DATA) == before


def test_a_folder_in_place_of_the_labels_is_told_in_one_sentence(
    volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_path(volumes / "data").mkdir(parents=True)
    with pytest.raises(InputError):
        preprocess(DATA)
    [told] = [event for line in capsys.readouterr().out.splitlines() if isinstance(event := parse(line), Failed)]
    assert told.error.startswith(f"{labels_path(volumes / 'data')} cannot be read (Is a directory): ")


def test_without_labels_nothing_changes(volumes: Path) -> None:
    """Neither what else lies in the folder, nor a file of labels in which none is left, is looked at."""
    before, alone = preprocess(DATA), preprocess({**DATA, "labelled": False})
    assert before == alone
    write_images(volumes / "data/images/train", {"x": "1"}, count=2)
    Book("light-on-dark", 10_000).note(given(1), Action.NOT_OURS)
    assert labels_path(volumes / "data").exists()
    assert preprocess(DATA) == before
    label(10)
    assert preprocess({**DATA, "labelled": False}) == before


def test_an_image_that_somebody_took_away_is_left_out(volumes: Path) -> None:
    label(12)
    gone = next((volumes / "data/images/train/blot").iterdir())
    gone.unlink()
    ids = preprocess(DATA)
    assert len(names(ids, *SPLITS)) == 11


def test_unchanged_labels_are_not_read_again(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label(12)
    made = preprocess(DATA)
    monkeypatch.setattr("steps.preprocess.sources.scan.RACY_SECONDS", -60)  # as if the files were old
    preprocess(DATA)
    monkeypatch.setattr("steps.preprocess.collect.contents", None)
    assert preprocess(DATA) == made


def test_a_gallery_image_needs_no_new_network(volumes: Path) -> None:
    before = preprocess(DATA)
    label(3, "gallery")
    after = preprocess(DATA)
    assert {name for name in after if after[name] != before[name]} == {"gallery"}
    held = read_split(after["gallery"])
    assert len(held) == len(read_split(before["train"])) + 3
    assert len(names(after, "gallery")) == 3
    assert "blot" in held.classes


@pytest.mark.parametrize("has_gallery", [False, True])
def test_a_folder_keeps_its_gallery(volumes: Path, has_gallery: bool) -> None:
    """One image labelled for the gallery does not become all of it."""
    root = volumes / "data/images"
    write_images(root / "train", {"one": "1", "two": "2"}, count=10)
    if has_gallery:
        write_images(root / "gallery", {"one": "1", "two": "2"}, first=10, count=3)
    folder = {**DATA, "source": "folder"}
    before = preprocess(folder)
    label(1, "gallery")
    label(5, "train", first=1)
    after = preprocess(folder)
    held = len(read_split(before["gallery"]))
    new = [name for name in read_split(after["gallery"]).names if "blot" in name]
    in_train = [name for name in read_split(after["train"]).names if "blot" in name]
    assert len(new) == 1 + (0 if has_gallery else len(in_train))
    assert len(read_split(after["gallery"])) == held + len(new)


def test_the_source_says_whether_it_needs_the_network() -> None:
    assert Data(**{**DATA, "source": "mnist"}).chosen_source().needs_network
    assert not Data(**DATA).chosen_source().needs_network
