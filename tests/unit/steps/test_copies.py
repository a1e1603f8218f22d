"""Near copies and groups: what a small change leaves alike is found, other images are not, in small sets and large."""

import numpy as np
import pytest

from steps.preprocess import copies
from steps.preprocess.copies import joined, near_copies, texts_of
from steps.preprocess.render import SIDE

RNG = np.random.default_rng(0)


def pictures(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, SIDE**2), dtype=np.uint8)


def shaken(images: np.ndarray, levels: int) -> np.ndarray:
    return np.clip(images.astype(int) + RNG.integers(-levels, levels + 1, images.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("flat", [True, False])
def test_copies_with_other_grey_levels_are_found_and_others_are_not(
    flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not flat:
        monkeypatch.setattr(copies, "_COMPARED_ALL_UP_TO", 100)
    images = pictures(1000)
    thumbnails = np.concatenate([images, shaken(images[:200], 3)])
    assert near_copies(thumbnails, 2.0) == [(row, 1000 + row) for row in range(200)]


def test_new_ones_are_searched_among_all() -> None:
    images = pictures(300)
    thumbnails = np.concatenate([images, shaken(images[7:8], 2)])
    assert near_copies(thumbnails, 2.0, new=np.array([300])) == [(7, 300)]


def test_the_limit_is_the_mean_difference() -> None:
    one = np.full((1, SIDE**2), 100, np.uint8)
    thumbnails = np.concatenate([one, one + 2])
    assert near_copies(thumbnails, 2.0) == [(0, 1)]
    assert near_copies(thumbnails, 1.9) == []
    assert near_copies(thumbnails, 0) == []


def test_one_image_or_none_has_no_copies() -> None:
    assert near_copies(pictures(1), 2.0) == near_copies(pictures(0), 2.0) == []


def test_pairs_join_through_any_number_of_images() -> None:
    groups = joined(6, [(0, 1), (1, 2), (4, 5)])
    assert [groups[0] == group for group in groups] == [True, True, True, False, False, False]
    assert groups[4] == groups[5] != groups[3]
    assert joined(3, []) == [0, 1, 2]


def test_what_a_pattern_matches_in_names() -> None:
    names = ["train/a/p01_1.png", "train/b/p02_1.png", "train/b/p01_9.png", "train/a/none.png"]
    assert texts_of(names, r"/(p\d+)_") == ["p01", "p02", "p01", None]
    assert texts_of(names, r"p\d+") == ["p01", "p02", "p01", None]
    assert texts_of(names, "") == [None] * 4
