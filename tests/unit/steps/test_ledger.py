"""The ledger of draws: it only grows, the first line of a key counts, and a torn line is none."""

from multiprocessing import get_context
from pathlib import Path

from steps.preprocess.ledger import Ledger

GROUPS = {"aa": "aa", "bb": "aa", "cc": "cc"}


def test_what_was_drawn_is_remembered_and_the_first_draw_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "splits", "draw")
    assert (ledger.exists, ledger.read().splits) == (False, {})
    ledger.remember({"aa": "train", "bb": "test"}, {"aa": "aa", "bb": "aa"})
    ledger.remember({"bb": "train", "cc": "validation"}, {"bb": "dd", "cc": "cc"})
    assert ledger.exists
    found = Ledger(tmp_path / "splits", "draw").read()
    assert found.splits == {"aa": "train", "bb": "test", "cc": "validation"}
    assert found.groups == GROUPS
    assert Ledger(tmp_path / "splits", "another").read().splits == {}


def test_what_was_not_drawn_may_be_drawn_later(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "draw")
    ledger.remember({}, {"aa": "aa"})
    assert (ledger.read().splits, ledger.read().groups) == ({}, {"aa": "aa"})
    ledger.remember({"aa": "train"}, {"aa": "aa"})
    assert ledger.read().splits == {"aa": "train"}


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "draw")
    ledger.remember({"aa": "train"}, {"aa": "aa"})
    before = (tmp_path / "draw.txt").stat()
    ledger.remember({"aa": "train"}, {"aa": "aa"})
    assert (tmp_path / "draw.txt").stat().st_mtime_ns == before.st_mtime_ns


def test_a_torn_line_is_left_out_and_hurts_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "draw")
    ledger.remember({"aa": "train"}, {"aa": "aa"})
    with (tmp_path / "draw.txt").open("a") as file:
        file.write("bb te")
    assert ledger.read().splits == {"aa": "train"}
    ledger.remember({"cc": "test"}, {"cc": "cc"})
    assert ledger.read().splits == {"aa": "train", "cc": "test"}


def _remember(folder: Path, number: int) -> None:
    ledger = Ledger(folder, "draw")
    for turn in range(20):
        key = f"{number:04x}{turn:04x}"
        with ledger.alone():
            ledger.remember({key: "train"}, {key: key})


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=_remember, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(Ledger(tmp_path, "draw").read().splits) == 60
