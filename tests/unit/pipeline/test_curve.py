"""`make curve`: parts of a split, each with every class, and what the accuracies of their networks say."""

import io
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.local import curve as curves
from pipeline.settings import Params
from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.images.part import part_of, rows_of_part
from steps.common.store import produce
from steps.common.volumes import model_volume
from steps.preprocess.sources.weights import Weights
from tests.support.examples import PARAMS
from tests.support.scene import digits, split


def test_parts_hold_one_another_keep_groups_and_have_every_class() -> None:
    labels = ["a"] * 40 + ["b"] * 4 + ["c"]
    groups = [f"g{row // 2}" for row in range(44)] + ["alone"]
    parts = [rows_of_part(labels, groups, share) for share in (0.25, 0.5, 0.75, 1.0)]
    assert [len(part) for part in parts] == [10 + 2 + 1, 20 + 2 + 1, 30 + 4 + 1, 45]
    for smaller, larger in pairwise(parts):
        assert set(smaller) < set(larger)
    for part in parts:
        assert part == sorted(part)
        taken = {groups[row] for row in part}
        assert part == [row for row in range(45) if groups[row] in taken]
        assert {labels[row] for row in part} == {"a", "b", "c"}


@pytest.fixture
def trained(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The labels of each part that is trained on; a network is right for as many tenths as the part has images."""
    found: list[list[str]] = []
    whole, validation = split(*digits(0, 4, "01")), split(*digits(4, 50, "01"))

    def train(train_split: str, validation_split: str, _: object, weights: str) -> str:
        assert (validation_split, weights) == (validation, "of the run")
        part = read_split(train_split)
        assert len(part.images[:]) == len(part)
        found.append([part.classes[label] for label in part.labels])
        facts = {"validation_accuracy": len(part) / 10}
        inputs = {"train": train_split}
        return produce(model_volume(), "network", "train", parameters={}, inputs=inputs, build=lambda _: facts).id

    prepared = {"train": whole, "validation": validation}, Weights("of the run")
    monkeypatch.setattr(curves, "prepare", lambda *_: prepared)
    monkeypatch.setattr(curves, "train", train)
    return found


def test_each_share_is_trained_on_and_shown(volumes: Path, trained: list[list[str]]) -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    curves.curve(Params.model_validate(PARAMS), volumes, console)
    assert [len(labels) for labels in trained] == [2, 4, 6, 8]
    assert all(set(labels) == {"0", "1"} for labels in trained)
    text = console.export_text()
    rows = [line.split()[:3] for line in text.splitlines() if "." in line]
    assert rows[:4] == [["25%", "2", "0.2000"], ["50%", "4", "0.4000"], ["75%", "6", "0.6000"], ["100%", "8", "0.8000"]]
    assert (
        "More pictures would help: from 6 to 8 training images the accuracy on validation goes from 60.0% of 100"
        in text
    )


def test_without_validation_images_there_is_no_curve(
    volumes: Path, trained: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = split(*digits(0, 4, "01"))
    empty = part_of(whole, 1.0)
    monkeypatch.setattr(curves, "prepare", lambda *_: ({"train": whole, "validation": empty}, Weights()))
    monkeypatch.setattr(curves, "open_split", lambda _: [])
    with pytest.raises(StepError, match="validation_fraction"):
        curves.curve(Params.model_validate(PARAMS), volumes, Console(file=io.StringIO()))
    assert trained == []
