"""The pages of the report: what they are made of, from made-up numbers; nothing on them grows with the data."""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from steps.analyse.advice.neighbours import Gallery
from steps.analyse.advice.open_set import FILE, nearest_of_others, write_open_set
from steps.analyse.answers import UNKNOWN, Answers, Nearest, write_answers
from steps.analyse.comparison import compare
from steps.analyse.judge import Rule
from steps.analyse.page import data, model
from steps.analyse.page.change import change
from steps.analyse.page.pictures import single, strip
from steps.analyse.page.rules import interval_of
from steps.common.images.dataset import Rows
from steps.common.images.png import encode_png
from steps.common.models.seen import Seen, hashes
from steps.common.statistics.interval import wilson


@dataclass(frozen=True)
class Split:
    """A split in memory: what the pages ask of one."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: list[str]
    rows: Rows
    path: Path = Path("/split")

    def __len__(self) -> int:
        return len(self.labels)


def split(labels: str | list[str], side: int = 4, channels: int = 1, keys: Any = (), groups: Any = ()) -> Any:
    classes = sorted(set(labels))
    images = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, channels), np.uint8)
    keys = list(keys) or [f"key-{row}" for row in range(len(labels))]
    numbers = np.array([classes.index(label) for label in labels], np.int64)
    return Split(images, numbers, classes, Rows(keys, keys, list(groups) or keys, [""] * len(keys)))


def described(**splits: Any) -> data.Data:
    every = dict.fromkeys(("train", "validation", "gallery", "test"), split(""))
    return data.describe({**every, **splits})


def test_the_page_on_data_counts_images_copies_and_groups() -> None:
    train = split("aabbb", keys="11234", groups="ggxyy")
    found = described(train=train, gallery=train, test=split("ac"))
    assert found.counts["a"] == {"train": 2, "validation": 0, "gallery": 2, "test": 1}
    assert found.counts["c"] == {"train": 0, "validation": 0, "gallery": 0, "test": 1}
    assert found.total == {"train": 5, "validation": 0, "gallery": 5, "test": 2}
    assert (found.classes, found.known) == (3, 2)
    assert asdict(found.copies["train"]) == {"images": 5, "distinct": 4, "groups": 2, "grouped": 4, "largest": 2}
    assert [(row.label, row.shown, row.images) for row in found.wall] == [("a", 2, 2), ("b", 3, 3)]
    assert [(group.label, group.images) for group in found.groups] == [("a", 2), ("b", 2)]


def test_without_images_the_page_on_data_is_empty() -> None:
    found = described()
    assert (found.counts, found.classes, found.wall, found.groups) == ({}, 0, [], [])


def test_of_a_thousand_classes_of_large_images_the_page_on_data_has_some() -> None:
    labels = [f"class-{number:04}" for number in range(1000) for _ in range(2)]
    large = split(labels, side=64, channels=3, groups=["one"] * 500 + ["two"] * 1500)
    found = described(train=large, gallery=large)
    assert (len(found.counts), found.classes, len(found.wall)) == (50, 1000, 40)
    assert len(json.dumps(asdict(found))) < 400_000


@pytest.mark.parametrize("side", [28, 32, 33, 200])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_small_even_of_noise(side: int, channels: int) -> None:
    noise = split("a" * 10, side, channels)
    assert len(single(base64.b64encode(encode_png(noise.images[0])).decode())) < 7_000
    assert len(strip(noise, range(10))) < 10 * 2_000


def seen(*keys: str) -> Seen:
    return Seen(np.unique(hashes(keys)), hashes([]), hashes([]))


def test_what_changed_is_counted_by_class() -> None:
    train = split("aabc", keys=["old", "new", "fresh", "other"])
    splits = {"train": train, "validation": split("a", keys=["new"]), "gallery": train}
    found = change(splits, "v1", seen("old", "new", "fresh", "other"), seen("old", "other", "gone"), ["z"])
    assert (found.new, found.gone) == (2, 1)
    assert found.per_class == {"a": 1, "b": 1}
    assert (found.new_classes, found.lost_classes) == (["b"], ["z"])


def test_the_map_keeps_clusters_apart_and_has_a_bounded_number_of_points() -> None:
    draw = np.random.default_rng(0)
    middles = np.eye(8, dtype=np.float32)[[0, 1, 2]]
    embeddings = np.repeat(middles, 1000, 0) + draw.normal(0, 0.02, (3000, 8)).astype(np.float32)
    found = model.gallery_map(embeddings, split(["a"] * 1000 + ["b"] * 1000 + ["c"] * 1000), ["b"])
    assert found
    assert (found.shown, found.images, found.others) == (2000, 3000, 0)
    assert [cluster.label for cluster in found.clusters] == ["a", "b", "c"]
    middle = np.array([cluster.middle for cluster in found.clusters])
    for number, cluster in enumerate(found.clusters):
        points = np.array(cluster.points)
        assert ((points >= 0) & (points <= 1)).all()
        nearest = np.linalg.norm(points[:, None] - middle, axis=2).argmin(1)
        assert (nearest == number).all()
    assert 0.9 < found.explained < 1


def test_many_classes_on_the_map_are_grey_but_for_the_confused() -> None:
    labels = [f"{number:03}" for number in range(100)]
    embeddings = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    found = model.gallery_map(embeddings, split(labels), ["099", "050"])
    assert found
    assert found.others == 80
    names = [cluster.label for cluster in found.clusters]
    assert names[0] == ""
    assert len(names) == 21
    assert {"099", "050"} < set(names)


@pytest.mark.parametrize(
    "embeddings",
    [np.zeros((0, 4)), np.ones((2, 4)), np.ones((9, 1)), np.ones((9, 4)), np.full((9, 4), np.nan)],
)
def test_what_no_map_can_be_made_of_has_none(embeddings: NDArray[np.float64]) -> None:
    assert model.gallery_map(embeddings.astype(np.float32), split("a" * len(embeddings)), []) is None


def answered(folder: Path, labels: list[str], distances: list[float]) -> None:
    found = Nearest(np.array(distances), np.zeros(len(labels), np.int64), None)
    write_answers(folder, Answers(labels, found, sorted({*labels} - {UNKNOWN})), np.ones(len(labels), bool))


def test_reliability_counts_what_is_right_by_similarity(tmp_path: Path) -> None:
    far, near = [0.5] * 10, [0.0] * 90
    answered(tmp_path, [*"b" * 4, *"a" * 96, UNKNOWN], [*far, *near, 0.9])
    found = model.reliability(split("a" * 101), tmp_path)
    assert [part.images for part in found] == [10] * 10
    assert (found[0].similarity, found[0].right, found[0].interval) == (0.5, 6, wilson(6, 10))
    assert all(part.right == 10 and part.similarity == 1 for part in found[1:])


def test_without_answers_there_is_no_reliability(tmp_path: Path) -> None:
    answered(tmp_path, [UNKNOWN], [np.inf])
    assert model.reliability(split("a"), tmp_path) == []


def test_the_nearest_of_other_classes_is_found() -> None:
    vectors = np.eye(3, dtype=np.float32)
    gallery = Gallery(vectors, np.array([0, 1, 1]), np.arange(3))
    queries = np.array([[0.8, 0.6, 0], [0, 0.8, 0.6], [0.6, 0, 0.8]], np.float32)
    assert nearest_of_others(gallery, queries, np.array([0, 1, -1])) == pytest.approx([0.6, 0.0, 0.8])


def test_the_open_set_curve_moves_with_the_limit(tmp_path: Path) -> None:
    vectors = np.eye(2, dtype=np.float32)
    gallery = Gallery(vectors, np.array([0, 1]), np.arange(2))
    queries = np.array([[1, 0], [0.8, 0.6]], np.float32)
    write_open_set(tmp_path, gallery, queries, np.array([0, 0]))
    assert json.loads((tmp_path / FILE).read_text()) == pytest.approx([0.4, 1.0])
    answered(tmp_path, ["a", "b", "a", "a"], [0.1, 0.1, 0.2, 0.6])
    found = model.open_set(split("aaaa"), tmp_path, 0.5)
    assert found
    assert found.now == (0.5, 0.5)  # of two, one is within 0.5; of four, two are right and within it
    assert (found.accepted[0], found.right[0], found.accepted[-1], found.right[-1]) == (0, 0, 1, 0.75)
    assert found.accepted == sorted(found.accepted)
    assert model.open_set(split("aaaa"), tmp_path, None) is not None


def test_with_one_class_there_is_no_open_set_curve(tmp_path: Path) -> None:
    gallery = Gallery(np.eye(2, dtype=np.float32), np.zeros(2, np.int64), np.arange(2))
    write_open_set(tmp_path, gallery, np.eye(2, dtype=np.float32), np.zeros(2, np.int64))
    answered(tmp_path, ["a", "a"], [0.1, 0.1])
    assert model.open_set(split("aa"), tmp_path, 0.5) is None


def test_rules_have_the_interval_of_what_they_found() -> None:
    right, wrong = np.ones(40, bool), np.arange(40) >= 4
    comparison = compare(right, wrong, 0.05)
    verdict: Any = SimpleNamespace(interval=wilson(90, 100), worst_accuracy=0.8, comparison=comparison)
    assert interval_of(Rule("baseline", 0.8, 0.9, 100, True, ""), verdict) == wilson(90, 100)
    assert interval_of(Rule("worst-class", 0.5, {"a": 0.8}, 10, True, ""), verdict) == wilson(8, 10)
    assert interval_of(Rule("worst-class", 0.5, None, 0, False, ""), verdict) is None
    assert interval_of(Rule("unknown", 0.05, 0.03, 100, True, ""), verdict) == wilson(3, 100)
    assert interval_of(Rule("champion", 0.05, 0.1, 40, True, ""), verdict) == comparison.interval
    assert interval_of(Rule("test-images", 30, 100, 100, True, ""), verdict) is None
