"""What would help: each finding from made-up numbers, and all of them from a small data set with planted faults."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from contract.events import Finished
from pipeline.kubeflow.job_summary import summary
from pipeline.local.run import advice_lines
from pipeline.outcome import Outcome
from steps.analyse.advice import findings, neighbours
from steps.analyse.advice.findings import Share
from steps.analyse.advice.neighbours import Gallery, far_from_their_class, nearest_of_class, vote
from tests.support import pixels, scene
from tests.support.scene import digits, model, split, verdict_on

COUNT, HELD = 14, 6  # images of each digit to train on, and for each of the other splits


@pytest.mark.parametrize(
    ("accuracies", "images", "rises"),
    [
        ([0.1, 0.3, 0.5, 0.6, 0.7, 0.8], 400, True),
        ([0.1, 0.3, 0.5, 0.6, 0.8, 0.8], 400, False),
        ([0.1, 0.3, 0.5, 0.6, 0.7, 0.73], 400, False),  # which 400 images do not tell from chance
        ([0.1, 0.3, 0.5, 0.6, 0.7, 0.73], 4000, True),
        ([0.9] * 8 + [0.7, 0.95], 4000, False),  # the last two of ten are no better than the two before
        ([0.8], 400, False),
        ([], 0, False),
    ],
)
def test_more_epochs_help_while_accuracy_on_validation_rises(accuracies: list[float], images: int, rises: bool) -> None:
    found = findings.training_curve(accuracies, images)
    assert found.helps is rises
    assert ("more epochs than 6" in found.text) is rises


@pytest.mark.parametrize(
    ("learned", "validation", "helps"),
    [
        (Share(990, 1000), Share(160, 200), True),
        (Share(990, 1000), Share(190, 200), False),  # near enough
        (Share(10, 10), Share(9, 10), False),  # chance
        (Share(0, 0), Share(160, 200), False),
        (Share(600, 1000), Share(160, 200), False),
    ],
)
def test_more_pictures_help_where_training_is_far_above_validation(
    learned: Share, validation: Share, helps: bool
) -> None:
    unseen = {"good": Share(20, 20), "bad": Share(5, 20), "worse": Share(4, 20), "tiny": Share(0, 4)}
    found = findings.overfitting(learned, validation, unseen)
    assert found.helps is helps
    assert ("'worse' (20.0% of 20), 'bad' (25.0% of 20)." in found.text) is helps
    assert "tiny" not in found.text
    assert "'good'" not in found.text


def test_classes_are_confused_both_ways_or_one() -> None:
    pairs = [("a", "b", 9), ("b", "a", 4), ("c", "d", 5), ("a", "unknown", 50), ("c", "a", 2), ("x", "y", 6)]
    images = {"a": 100, "b": 50, "c": 20, "d": 20, "x": 500, "y": 500}
    found = findings.confused_pairs(pairs, images, "unknown")
    assert [pair for pair, _ in found] == [("a", "b"), ("c", "d")]  # 6 of 1000 are few
    both, one = (finding.text for _, finding in found)
    assert "9 of 100 test images of 'a' are answered 'b', and 4 of 50 the other way" in both
    assert "one direction. 5 of 20 test images of 'c' are answered 'd', none the other way" in one
    assert [pair for pair, _ in findings.confused_pairs([("b", "a", 4), ("a", "b", 4)], images, "")] == [("a", "b")]
    assert findings.confused_pairs([], {}, "unknown") == []


def test_labels_are_judged_only_by_neighbours_that_are_right() -> None:
    suspect = {"name": "x.png", "split": "train", "label": "a", "neighbours": "b"}
    found = findings.mislabelled([suspect] * 60, 500, 500, Share(95, 100))
    assert found.helps
    assert "60 of 500 images: " in found.text
    assert "'x.png' ('a', neighbours 'b')" in found.text
    assert "and 55 more" in found.text
    assert len(found.images) == findings.LISTED
    doubted = findings.mislabelled([suspect], 500, 500, Share(80, 100))
    assert (doubted.helps, doubted.images) == (False, [])
    assert "80.0% of 100" in doubted.text
    assert not findings.mislabelled([], 500, 900, Share(95, 100)).helps


def test_long_names_make_no_long_sentences() -> None:
    suspect = {"name": f"{'a/' * 2000}x.png", "split": "train", "label": "b" * 300, "neighbours": "c" * 300}
    text = findings.mislabelled([suspect] * 60, 500, 500, Share(95, 100)).text
    assert len(text) < 1500
    assert "a/a/x.png'" in text


def test_near_copies_are_counted_and_their_labels_compared() -> None:
    found = findings.near_copies(100, 20, 4, 9)
    assert found.helps
    assert "20 of 100 training images" in found.text
    assert "in 4 groups of up to 9" in found.text
    assert not findings.near_copies(1000, 20, 4, 9).helps
    assert not findings.near_copies(0, 0, 0, 0).helps
    across = findings.copies_across([[("1.png", "a"), ("2.png", "b")]])
    assert "1 group" in across.text
    assert "'1.png' ('a'), '2.png' ('b')" in across.text
    assert not findings.copies_across([]).helps


def test_a_class_with_few_images_is_named_with_its_accuracy() -> None:
    found = findings.few_images({"a": 200, "b": 200, "c": 12}, {"a": Share(9, 10), "b": Share(8, 10), "c": Share(1, 4)})
    assert "1 class of 3 has fewer than 40" in found.text
    assert "'c' (12)" in found.text
    assert "25.0% of 4 of these classes are right, and 85.0% of 20 of the others" in found.text
    assert not findings.few_images({"a": 200, "b": 150}, {}).helps
    assert not findings.few_images({}, {}).helps
    many = findings.few_images({f"{i:02}": 3 for i in range(40)}, {})
    assert "40 classes of 40 have" in many.text
    assert many.text.endswith("and 35 more.")


def test_the_learning_curve_says_whether_the_last_images_helped() -> None:
    def curve(before: int, last: int) -> findings.Finding:
        return findings.learning_curve([(10, Share(100, 400)), (30, Share(before, 400)), (40, Share(last, 400))])

    assert curve(300, 340).helps
    assert "from 30 to 40" in curve(300, 340).text
    assert not curve(335, 340).helps
    assert not curve(390, 340).helps


def unit(vectors: Any) -> np.ndarray[Any, Any]:
    vectors = np.array(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_near_copies_of_an_image_have_no_vote_and_a_crowd_of_them_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image with label 1, its own copy, a crowd of six copies with label 1, and five single ones with label 0."""
    angles = [0.0, 0.001, *np.linspace(0.01, 0.02, 6), *np.linspace(0.1, 0.2, 5), *np.linspace(1, 2, 6)]
    vectors = unit([[np.cos(angle), np.sin(angle)] for angle in angles])
    labels = np.array([1, 1, *[1] * 6, *[0] * 5, *[1] * 6])
    groups = np.array([0, 0, *[1] * 6, *range(2, 13)])
    gallery = Gallery(vectors, labels, groups)
    monkeypatch.setattr(neighbours, "COUNT", 6)
    votes = vote(gallery, vectors[:1], labels[:1], groups[:1])
    assert (votes.label[0], votes.share[0], votes.nearest[0]) == (0, pytest.approx(5 / 6), 2)
    assert votes.agree[0]
    assert votes.cosine[0] == pytest.approx(np.cos(np.linspace(0.1, 0.2, 5)).mean())


def test_a_class_with_hardly_other_images_is_not_judged() -> None:
    vectors = unit([[1, i / 100] for i in range(20)])
    labels = np.array([1, *[0] * 15, *[1] * 4])
    votes = vote(Gallery(vectors, labels, np.arange(20)), vectors, labels, np.arange(20))
    assert not votes.judged[0]
    assert votes.judged[1]
    lone = vote(Gallery(vectors[:1], labels[:1], np.arange(1)), vectors[:1], labels[:1], np.arange(1))
    assert (lone.nearest[0], lone.label[0], lone.agree[0]) == (-1, -1, False)


@pytest.mark.parametrize("chunk", [7, 1 << 14])
def test_the_search_in_parts_is_the_search_of_all(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(neighbours, "_CHUNK", chunk)
    rng = np.random.default_rng(0)
    vectors, labels = unit(rng.standard_normal((60, 5))), rng.integers(0, 3, 60)
    queries = unit(rng.standard_normal((9, 5)))
    gallery = Gallery(vectors, labels, np.arange(60))
    votes = vote(gallery, queries, np.zeros(9, np.int64), np.full(9, 99))
    cosines = queries @ vectors.T
    assert votes.nearest.tolist() == cosines.argmax(1).tolist()
    for row, ten in enumerate(np.argsort(-cosines, axis=1)[:, :10]):
        assert votes.share[row] == np.bincount(labels[ten]).max() / 10
    of_class = np.where(labels == 2, cosines, -9)
    assert nearest_of_class(gallery, queries, 2)[1].tolist() == of_class.argmax(1).tolist()
    means = unit([vectors[labels == label].mean(0) for label in range(3)])
    own = (vectors * means[labels]).sum(1)
    assert far_from_their_class(gallery, 6).tolist() == sorted(np.argsort(own)[:6].tolist())


def test_of_a_large_gallery_a_sample_is_looked_for() -> None:
    def most(count: int, size: int) -> int:
        numbers = np.broadcast_to(np.float32(0), (count, size))
        return neighbours.most(Gallery(numbers, np.zeros(0, np.int64), np.zeros(0, np.int64)))

    assert most(4_000, 64) == 5_000
    assert most(100_000, 64) == 5_000
    assert most(100_000, 512) < 2_000
    assert neighbours.sample(10, 99).tolist() == list(range(10))
    rows = neighbours.sample(1000, 50)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert rows.tolist() == neighbours.sample(1000, 50).tolist()


def planted(labels: str, *, wrong: int = 0, hostile: bool = False) -> list[dict[str, Any]]:
    """What a run says of digits with some labels changed; `hostile` names come from whoever wrote the files."""
    images, own = digits(0, COUNT, labels)
    own = list(own)
    for row in range(1, wrong * COUNT, COUNT):  # the second image of some digits
        own[row] = labels[(labels.index(own[row]) + 1) % len(labels)]
    name = "<b>{}</b>\n".format if hostile else str
    train = split(images, [name(label) for label in own], size=28)
    parts = [digits(COUNT + HELD * turn, HELD, labels) for turn in (0, 1)]
    validation, test = (split(held, [name(label) for label in those], size=28) for held, those in parts)
    made = model(train, validation, train, np.ones(28 * 28, np.float32))
    analysis = verdict_on(test, made, baseline=0.0, worst_class_floor=0.0, max_unknown=1.0)
    evaluation = json.loads((analysis.report.parent / "verdict.json").read_text())["evaluation"]
    folder = analysis.report.parents[2] / "evaluation" / evaluation
    found: list[dict[str, Any]] = json.loads((folder / "advice.json").read_text())
    told = [finding["text"] for finding in found if finding["helps"]]
    assert analysis.advice == told == json.loads((analysis.report.parent / "verdict.json").read_text())["advice"]
    found.append({"about": "page", "text": analysis.report.read_text(), "helps": False})
    return found


def of(about: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    return next(finding for finding in found if finding["about"] == about)


@pytest.fixture
def by_pixels(volumes: Path, monkeypatch: pytest.MonkeyPatch, plain_pictures: None) -> None:
    """Networks compare pixels, and of these few digits all are in the core of their class."""
    from steps.analyse.advice import advise
    from steps.common.models import embedding

    monkeypatch.setattr(embedding, "Network", pixels.Pixels)
    monkeypatch.setattr(advise, "_CORE", 0.0)


@pytest.mark.usefixtures("by_pixels")
def test_planted_wrong_labels_are_named_and_right_ones_are_not() -> None:
    found = planted("01", wrong=2)
    labels = of("labels", found)
    names = {f"image-{scene.key_of_pixels(digits(1, 1, label)[0][0])}": label for label in "01"}
    assert {each["name"]: each["neighbours"] for each in labels["images"]} == names
    assert all(each["label"] != each["neighbours"] and each["split"] == "train" for each in labels["images"])
    assert all(each["image"] and each["neighbour"]["image"] for each in labels["images"])


def nearest_of(labels: str, name: str, answer: str) -> str:
    """The name of the training image with this label that is nearest to a test image, by a plain search of pixels."""
    (known, own), (asked, _) = digits(0, COUNT, labels), digits(COUNT + HELD, HELD, labels)
    vectors = [unit(images.reshape(len(images), -1) + 1e-3) for images in (known, asked)]
    row = [f"image-{scene.key_of_pixels(image)}" for image in asked].index(name)
    cosines = np.where([label in answer for label in own], vectors[0] @ vectors[1][row], -1)
    return f"image-{scene.key_of_pixels(known[cosines.argmax()])}"


@pytest.mark.usefixtures("by_pixels")
def test_the_page_shows_confused_classes_in_pairs_and_escapes_what_files_say() -> None:
    found = planted("49", hostile=True)
    confused = of("confused classes", found)
    assert confused["helps"]
    assert 0 < len(confused["images"]) <= 5
    for each in confused["images"]:
        assert each["answer"] == each["neighbour"]["label"] != each["label"]
        assert each["neighbour"]["name"] == nearest_of("49", each["name"], each["answer"])
    page = found[-1]["text"]
    assert "What would help" in page
    on_data, on_model = page.split('<main class="page model">')
    assert "<strong>few images.</strong>" in on_data
    assert "<strong>confused classes.</strong>" in on_model
    assert "<b>4" not in page
    assert "&lt;b&gt;4" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count("data:image/webp;base64,") >= 2 * len(confused["images"])


def test_the_closing_lines_have_a_few_sentences_and_the_summary_all() -> None:
    assert advice_lines([]) == [("would help", "nothing stands out; the report says what was looked at")]
    assert advice_lines(["a", "b"]) == [("would help", "a"), ("", "b")]
    assert advice_lines([*"abcde"])[2:] == [("", "c"), ("", "2 more in the report")]
    text = summary(
        SimpleNamespace(run_details=None),
        Outcome("DEPLOYED", "x"),
        {"analyse": Finished("analyse", advice=["one <b> | two"], data="train 9 | <b>")},
        "",
    )
    assert "What would help:\n\n- one &lt;b> \\| two\n" in text
    assert "\ndata: train 9 \\| &lt;b>\n" in text
