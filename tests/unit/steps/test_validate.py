"""Validate: the error for a broken rule names split, rule, value and file."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steps.common import store
from steps.common.errors import StepError
from steps.common.images.dataset import Rows, write_split
from steps.common.store import produce
from steps.validate.validate import validate
from tests.support.examples import PARAMS
from tests.support.stored_images import store_images

Images = dict[str, Any]
IMAGES = {"image_size": 8, "channels": 1}
OTHERS = {"source": "folder", "factory": "Flat", "embedding_size": 64, "allow_lost_classes": []}


def content(seed: int, count: int = 6) -> dict[str, Any]:
    images = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), np.uint8)
    return {"images": images, "labels": ["x", "y"] * (count // 2), "names": [f"{seed}/{i}" for i in range(count)]}


@pytest.fixture
def check(volumes: Path) -> Callable[..., str]:
    """Writes four valid splits, changed by the caller, and validates them."""

    def check(change: Callable[[dict[str, Images]], None] = lambda splits: None, **rules: Any) -> str:
        splits: dict[str, Images] = {
            name: content(i) for i, name in enumerate(("train", "validation", "gallery", "test"))
        }
        change(splits)
        ids = {}
        for name, split in splits.items():

            def build(folder: Path, split: Images = split) -> dict[str, Any]:
                keys = [hashlib.sha256(image.tobytes()).hexdigest()[:32] for image in split["images"]]
                store_images("8x8x1-test", keys, split["images"])
                write_split(folder, split["labels"], Rows(split["names"], keys, keys, [""] * len(keys)), "8x8x1-test")
                for file, array in split.get("arrays", {}).items():
                    np.save(folder / file, array)
                return {}

            digest = {"images": store.digest([name, str(split)])}
            ids[name] = produce(
                volumes / "data", "dataset", "preprocess", parameters=IMAGES, inputs=digest, build=build
            ).id
        return validate(
            ids,
            {key: rules.get(key, value) for key, value in IMAGES.items()},
            {key: rules.get(key, value) for key, value in PARAMS["validate"].items()},
            **{key: rules.get(key, value) for key, value in OTHERS.items()},
        )

    return check


def broken(check: Callable[..., str], change: Callable[[dict[str, Images]], None], **rules: Any) -> str:
    with pytest.raises(StepError, match="the data is not fit to train on") as error:
        check(change, **rules)
    return str(error.value)


def test_valid_splits_get_a_report(check: Callable[..., str], volumes: Path) -> None:
    report = json.loads((volumes / "data/validation" / check() / "report.json").read_text())
    assert report["train"]["images"] == 6
    assert report["test"]["per_class"] == {"x": 3, "y": 3}


def test_a_wrong_shape_is_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: None, image_size=9)
    assert "test: images have the shape (9, 9, 1); found (8, 8, 1); in " in message
    assert "pixels/8x8x1-test" in message


def test_wrong_types_are_named(check: Callable[..., str]) -> None:
    floats = {"labels.npy": np.zeros(6, np.float32)}
    message = broken(check, lambda s: s["gallery"].update(arrays=floats))
    assert "gallery: labels are int64 [N]; found float32 (6,)" in message


def test_an_empty_split_is_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["test"].update(content(9, 0)))
    assert "test: at least one image (add images, or raise its fraction in data); found 0; in " in message


def test_counts_that_differ_are_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["train"].update(arrays={"labels.npy": np.zeros(5, np.int64)}))
    assert "train: as many images as labels and names; found 6 images, 5 labels, 6 names" in message


def test_a_label_without_a_class_is_named(check: Callable[..., str]) -> None:
    labels = np.array([0, 1, 0, 1, 7, -1])
    message = broken(check, lambda s: s["train"].update(arrays={"labels.npy": labels}))
    assert "train: labels are 0 to 1; found [7, -1]" in message
    assert "labels.npy" in message


def test_one_class_is_not_enough(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["train"].update(labels=["x"] * 6))
    assert "train: at least two classes; found ['x']" in message


def test_a_class_too_small_is_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["train"].update(labels=["x"] * 5 + ["y"]), min_images_per_class=2)
    assert "train: at least 2 images in a class (validate.min_images_per_class); found 1 of 'y'" in message


def test_a_dominant_class_is_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["train"].update(labels=["x"] * 4 + ["y"] * 2), max_class_ratio=1.5)
    assert "at most 1.5 times the smallest (validate.max_class_ratio); found 4 of 'x', 2 of 'y'" in message


def test_duplicates_are_named(check: Callable[..., str]) -> None:
    def duplicate(splits: dict[str, Images]) -> None:
        splits["train"]["images"][4] = splits["train"]["images"][2]

    message = broken(check, duplicate)
    assert "train: at most 5.0% duplicates (validate.max_duplicate_fraction); found 1 of 6: 0/4 = 0/2" in message
    check(duplicate, max_duplicate_fraction=0.5)


def test_an_image_with_two_labels_is_named(check: Callable[..., str]) -> None:
    def contradict(splits: dict[str, Images]) -> None:
        splits["train"]["images"][5] = splits["train"]["images"][2]

    message = broken(check, contradict, max_duplicate_fraction=1.0)
    assert "train: an image has one label; found 1 with two: 0/5 = 0/2" in message


@pytest.mark.parametrize("split", ["train", "validation", "gallery"])
def test_a_test_image_elsewhere_is_leakage(check: Callable[..., str], split: str) -> None:
    def leak(splits: dict[str, Images]) -> None:
        splits[split]["images"][1] = splits["test"]["images"][4]

    message = broken(check, leak)
    assert f"test: no test image is in {split}; found 1: 3/4 = {splits_number(split)}/1" in message


def splits_number(split: str) -> int:
    return ["train", "validation", "gallery"].index(split)


def test_images_all_alike_are_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["validation"].update(images=np.zeros((6, 8, 8, 1), np.uint8)))
    assert "validation: images differ from one another; found all are alike" in message


def test_a_test_class_that_no_gallery_image_has_is_named(check: Callable[..., str]) -> None:
    message = broken(check, lambda s: s["test"].update(labels=["x", "z"] * 3))
    assert "test: its classes are in gallery; found ['z'] are not" in message


def with_classes(**counts: int) -> Callable[[dict[str, Images]], None]:
    """Splits whose training and gallery images have these classes; a number of images each."""

    def change(splits: dict[str, Images]) -> None:
        labels = [label for label, count in counts.items() for _ in range(count)]
        for number, name in enumerate(("train", "gallery")):
            images = content(10 + number, 2 * len(labels))["images"][: len(labels)]
            splits[name] = {"images": images, "labels": labels, "names": [f"{name}/{i}" for i in range(len(labels))]}
        for name in ("validation", "test"):
            splits[name]["labels"] = list(counts)[:1] * 6

    return change


LIMITS = {"max_class_ratio": 100.0}


def test_a_class_that_vanished_fails_until_it_may(
    check: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    check(with_classes(x=20, y=20, z=6), **LIMITS)
    for _ in range(2):  # the last data that were sound stay what it is compared with
        with pytest.raises(StepError, match="class 'z' vanished: 12 images before, 0 now") as refused:
            check(with_classes(x=20, y=20), **LIMITS)
    assert "gate.allow_lost_classes" in str(refused.value)
    assert "z          12       0" in capsys.readouterr().out
    check(with_classes(x=20, y=20), allow_lost_classes=["z"], **LIMITS)
    check(with_classes(x=20, y=20), **LIMITS)


@pytest.mark.parametrize(("left", "sound"), [(10, True), (9, False)])
def test_a_class_that_shrank_too_much_fails(check: Callable[..., str], left: int, sound: bool) -> None:
    check(with_classes(x=20, y=20), **LIMITS)
    if sound:
        check(with_classes(x=20, y=left), **LIMITS)
    else:
        with pytest.raises(StepError, match=r"class 'y' shrank by more than validate\.max_shrink \(0\.5\)"):
            check(with_classes(x=20, y=left), **LIMITS)


def test_another_source_is_not_compared(check: Callable[..., str]) -> None:
    check(with_classes(x=20, y=20, z=6), **LIMITS)
    check(with_classes(x=20, y=20), source="sample", **LIMITS)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"source": "folder", "classes": {"x": "many"}}'])
def test_a_damaged_record_of_the_last_data_is_none(check: Callable[..., str], volumes: Path, damage: str) -> None:
    check(with_classes(x=20, y=20, z=6), **LIMITS)
    (volumes / "data/last-data.json").write_text(damage)
    check(with_classes(x=20, y=20), **LIMITS)


def test_an_index_that_cannot_be_made_is_refused_before_training(check: Callable[..., str]) -> None:
    with pytest.raises(StepError, match=r"index\.factory is 'IVF64,Flat', and FAISS cannot make that index of 6"):
        check(factory="IVF64,Flat")
    with pytest.raises(StepError, match=r"index\.factory is 'PQ8', and its similarities are no cosines"):
        check(factory="PQ8")
