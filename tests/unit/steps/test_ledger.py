"""The ledger of draws: it only grows, the first line of a key counts, and a torn line is none."""

from multiprocessing import get_context
from pathlib import Path

from steps.preprocess.ledger import Ledger


def test_what_was_drawn_is_remembered_and_the_first_draw_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "splits", "draw")
    assert (ledger.exists, ledger.read()) == (False, {})
    ledger.append({"aa": "train", "bb": "test"})
    ledger.append({"bb": "train", "cc": "validation"})
    assert ledger.exists
    assert Ledger(tmp_path / "splits", "draw").read() == {"aa": "train", "bb": "test", "cc": "validation"}
    assert Ledger(tmp_path / "splits", "another").read() == {}


def test_a_torn_line_is_left_out_and_hurts_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "draw")
    ledger.append({"aa": "train"})
    with (tmp_path / "draw.txt").open("a") as file:
        file.write("bb te")
    assert ledger.read() == {"aa": "train"}
    ledger.append({"cc": "test"})
    assert ledger.read() == {"aa": "train", "cc": "test"}


def _append(folder: Path, number: int) -> None:
    ledger = Ledger(folder, "draw")
    for turn in range(20):
        with ledger.alone():
            ledger.append({f"{number:04x}{turn:04x}": "train"})


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=_append, args=(tmp_path, number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(Ledger(tmp_path, "draw").read()) == 60
