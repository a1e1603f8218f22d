"""Which classes are taken for which: the matrix where it can be read, and at any number the most confused pairs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kfp import dsl
from PIL import Image

from contract.events import Finished, line
from pipeline.kubeflow.job_summary import summary
from pipeline.outcome import Outcome
from steps.analyse.confusion import READABLE, Confusion

MANY = [1_000, 3_000, 6_000]


def of_many(count: int, label: str = "class-{}") -> Confusion:
    """Three images of each class: all right in even classes, and two taken for the next class in odd ones."""
    classes = [label.format(f"{i:05}") for i in range(count)]
    true = [classes[i] for i in range(count) for _ in range(3)]
    answers = [classes[(i + (i % 2 and turn > 0)) % count] for i in range(count) for turn in range(3)]
    return Confusion.of(true, answers, classes)


def test_rows_are_true_and_columns_answers() -> None:
    labels, matrix = Confusion.of(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"]).matrix()
    assert labels == ["a", "b", "c"]
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_no_images_are_no_pairs() -> None:
    confusion = Confusion.of([], [], ["a"])
    assert (confusion.most(), confusion.matrix()[1].tolist()) == ([], [[0]])


def test_the_most_confused_pairs_come_first_and_right_answers_are_none() -> None:
    true, answers = "aaaaaabbbbc", "aabbbcbaaab"
    assert Confusion.of([*true], [*answers], [*"abc"]).most() == [
        ["a", "b", 3],
        ["b", "a", 3],
        ["a", "c", 1],
        ["c", "b", 1],
    ]


def test_what_cannot_be_read_whole_is_shown_as_the_most_confused_and_all_others() -> None:
    count = READABLE + 10
    classes = [f"{i:02}" for i in range(count)]
    true = [*classes, "07", "07", "31"]
    answers = [*classes, "09", "09", "30"]
    labels, matrix = Confusion.of(true, answers, classes).matrix()
    assert labels == ["07", "09", "30", "31", f"{count - 4} other classes"]
    assert matrix.tolist() == [
        [1, 2, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, count - 4],
    ]


@pytest.mark.parametrize(
    "classes",
    [["$\\frac$", "_^{", "日本語", "x" * 300], pytest.param([str(i) for i in range(READABLE)], marks=pytest.mark.slow)],
)
def test_the_picture_can_show_any_labels(tmp_path: Path, classes: list[str]) -> None:
    Confusion.of(classes, classes, classes).write(tmp_path)
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2500


@pytest.mark.parametrize("count", MANY)
def test_what_is_kept_grows_with_the_pairs_and_what_is_passed_on_does_not_grow(tmp_path: Path, count: int) -> None:
    confusion = of_many(count)
    confusion.write(tmp_path)
    assert not (tmp_path / "confusion.png").exists()
    assert (tmp_path / "confusion.json").stat().st_size < 100 * count
    kept = json.loads((tmp_path / "confusion.json").read_text())
    assert (sum(kept["images"]), len(kept["images"])) == (3 * count, count + count // 2)
    event = line(Finished("analyse", **confusion.passed_on()))
    assert len(event) < 6_000


def test_of_as_many_classes_as_can_be_read_the_event_is_small_too() -> None:
    assert len(line(Finished("analyse", **of_many(READABLE).passed_on()))) < 10_000


@pytest.mark.parametrize("count", [READABLE, *MANY])
def test_what_kubeflow_and_github_get_is_within_their_limits(count: int) -> None:
    confusion = of_many(count, "{}-" + "|x" * 120)
    passed_on = confusion.passed_on()
    run = SimpleNamespace(run_details=None)
    text = summary(run, Outcome("DEPLOYED", ""), {"analyse": Finished("analyse", **passed_on)}, "link")
    assert confusion.most()[0][0].replace("|", "\\|") in text
    assert len(text.encode()) < 100_000
    metrics = dsl.ClassificationMetrics(uri="confusion")
    metrics.log_confusion_matrix(passed_on["classes"], passed_on["confusion"])
    assert len(json.dumps(metrics.metadata)) < 100_000


def test_all_images_of_all_classes_are_in_the_matrix() -> None:
    _, matrix = of_many(1_000).matrix()
    assert matrix.sum() == 3_000
    assert matrix.dtype == np.int64
