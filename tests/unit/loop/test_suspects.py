"""Images of the data set whose labels the last run doubts: kept, moved, or said to be unmovable."""

import json
from pathlib import Path

import pytest

from contract.loop.collected import digest_of
from contract.loop.labels import Action
from pipeline.copied import Copied
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import Book
from pipeline.loop.review.suspects import Suspects
from steps.common.images.dataset import Rows, png_original, write_split
from steps.common.store import produce
from tests.support.model_archive import picture, png

MINE = "train/four/mine.png"
_CODE = ("steps.common.images.png",)


@pytest.fixture
def run(volumes: Path) -> Path:
    """What a run left that doubts two labels: of a file of the data volume, and of an image of a built-in source."""
    (volumes / "data/images/train/four").mkdir(parents=True)
    (volumes / "data/images" / MINE).write_bytes(png(picture(1)))
    rows = Rows(["sample#7", MINE], ["0" * 32, "1" * 32], ["a", "b"], [png_original(png(picture(2))), f"images/{MINE}"])

    def make(volume: str, kind: str, inputs: dict[str, str], **files: object) -> str:
        def build(folder: Path) -> dict[str, object]:
            if kind == "dataset":
                write_split(folder, ["seven", "four"], rows, "pixels")
            for name, content in files.items():
                (folder / f"{name}.json").write_text(json.dumps(content))
            return {}

        made = produce(volumes / volume, kind, "index", parameters={}, inputs=inputs, build=build, code=_CODE)
        return made.id

    split = make("data", "dataset", {"images": "i"})
    network = make("model", "network", {"train": split, "validation": split})
    index = make("model", "index", {"embeddings": make("model", "embeddings", {"gallery": split})})
    doubted = [
        {"name": "sample#7", "split": "train", "label": "seven", "neighbours": "one"},
        {"name": MINE, "split": "train", "label": "four", "neighbours": "nine"},
        {"name": "train/four/gone.png", "split": "train", "label": "four", "neighbours": "nine"},
    ]
    findings = [{"about": "labels", "images": doubted}, {"about": "near copies", "images": []}]
    inputs = {"test": split, "network": network, "index": index}
    evaluation = make("model", "evaluation", inputs, advice=findings)
    make("model", "verdict", {"evaluation": evaluation, "champion": ""}, verdict={"evaluation": evaluation})
    return volumes / "data/images"


def opened() -> tuple[Suspects, Book]:
    book = Book("light-on-dark", 10_000)
    return Suspects(book), book


def test_a_file_is_moved_and_moved_back(run: Path) -> None:
    suspects, book = opened()
    _, mine = suspects.waiting()
    assert (mine.name, mine.label, mine.neighbours, mine.fixed) == (MINE, "four", "nine", "")
    line = suspects.decide(mine.digest, "nine")
    assert (run / "train/nine/mine.png").is_file()
    assert mine not in suspects.waiting()
    assert mine not in opened()[0].waiting(), "nor after another start"
    book.undo([line.id])
    assert (run / MINE).is_file()
    assert mine in suspects.waiting()


def test_a_right_label_is_not_asked_for_again(run: Path) -> None:
    suspects, book = opened()
    _, mine = suspects.waiting()
    line = suspects.decide(mine.digest, "four")
    assert (line.action, line.digest) == (Action.KEEP, digest_of((run / MINE).read_bytes()))
    assert mine not in opened()[0].waiting()
    book.undo([line.id])
    assert mine in suspects.waiting()


def test_files_of_a_built_in_source_cannot_be_changed(run: Path) -> None:
    suspects, _ = opened()
    seven, _ = suspects.waiting()
    assert seven.data == png(picture(2))
    assert "built-in source, whose files cannot be changed" in seven.fixed
    with pytest.raises(LabelError, match="built-in"):
        suspects.decide(seven.digest, "one")
    suspects.decide(seven.digest, "seven")
    assert seven not in suspects.waiting()


def test_copies_are_moved_where_they_come_from(run: Path) -> None:
    Copied("/pictures", {MINE}).write()
    suspects, _ = opened()
    _, mine = suspects.waiting()
    assert "copy from /pictures" in mine.fixed
    with pytest.raises(LabelError, match="copy from /pictures"):
        suspects.decide(mine.digest, "nine")


def test_without_a_run_nothing_is_doubted(volumes: Path) -> None:
    suspects, _ = opened()
    assert suspects.waiting() == []
    with pytest.raises(LabelError, match="does not suspect"):
        suspects.decide("0" * 64, "nine")
