"""The law of the splits: whatever comes, goes, is renamed or copied, nothing once learned from is later tested on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.preprocess.draw import Drawn, Image, draw

SHARES = {"test": 0.2, "validation": 0.08, "seed": 0}


def key(number: int) -> str:
    return f"{number:032x}"


def splits(
    images: list[Image], before: dict[str, str] | None = None, groups: dict[str, str] | None = None, **changed: float
) -> dict[str, Drawn]:
    return draw(images, before=before or {}, before_groups=groups or {}, **{**SHARES, **changed})  # type: ignore[arg-type]


def alone(numbers: range, label: str = "a") -> list[Image]:
    return [Image(key(number), label, key(number)) for number in numbers]


IMAGES = st.builds(
    lambda number, label, group: Image(key(number), label, f"g{group}" if group < 12 else key(number)),
    st.integers(0, 60),
    st.sampled_from("abc"),
    st.integers(0, 40),
)
STATES = st.lists(st.lists(IMAGES, max_size=40, unique_by=lambda image: image.key), min_size=2, max_size=6)


@given(STATES)
@settings(max_examples=300, deadline=None)
def test_nothing_that_was_learned_from_is_ever_tested_on(states: list[list[Image]]) -> None:
    ledger: dict[str, str] = {}
    learned: set[str] = set()
    for state in states:
        drawn = splits(state, ledger)
        assert set(drawn) == {image.key for image in state}
        ledger |= {key: found.split for key, found in drawn.items() if found.split != "left out"}
        assert not learned & {key for key, found in drawn.items() if found.split == "test"}
        learned |= {key for key, found in drawn.items() if found.split in ("train", "validation")}


@given(STATES)
@settings(max_examples=200, deadline=None)
def test_a_draw_that_is_remembered_never_changes_and_a_group_is_never_parted(states: list[list[Image]]) -> None:
    ledger: dict[str, str] = {}
    group_of: dict[str, str] = {}
    of_groups: dict[str, str] = {}
    for state in states:
        fixed = [Image(one.key, one.label, group_of.setdefault(one.key, one.group)) for one in state]
        drawn = splits(fixed, ledger, of_groups)
        assert {key: drawn[key].split for key in ledger.keys() & drawn.keys()} == {
            key: ledger[key] for key in ledger.keys() & drawn.keys()
        }
        for image in fixed:
            assert of_groups.setdefault(image.group, drawn[image.key].split) == drawn[image.key].split
        ledger |= {key: found.split for key, found in drawn.items()}


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_what_happens_in_one_class_moves_nothing_in_another(mine: int, before: int, after: int) -> None:
    own = alone(range(mine), "a")
    few = splits(own + alone(range(100, 100 + before), "b"))
    many = splits(own + alone(range(100, 100 + after), "b"))
    assert {image.key: few[image.key] for image in own} == {image.key: many[image.key] for image in own}


def test_neither_order_nor_names_nor_a_copy_count() -> None:
    images = alone(range(200))
    assert splits(images) == splits(list(reversed(images))) == splits(images + images[:50])


def test_the_shares_are_those_asked_for() -> None:
    counts = Counter(found.split for found in splits(alone(range(20_000))).values())
    assert counts["test"] / 20_000 == pytest.approx(0.2, abs=0.015)
    assert counts["validation"] / 20_000 == pytest.approx(0.08, abs=0.01)


@pytest.mark.parametrize(
    ("images", "wanted"),
    [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "validation"])],
    ids=["one", "two", "three"],
)
def test_a_small_class_has_one_in_each_split_as_far_as_it_goes(images: int, wanted: list[str]) -> None:
    for first in range(0, 3000, 10):
        found = splits(alone(range(first, first + images)))
        assert sorted(one.split for one in found.values()) == wanted


def test_a_small_class_that_was_learned_from_is_tested_by_new_images_alone() -> None:
    before = {key(0): "train", key(1): "train"}
    assert splits(alone(range(2)), before)[key(1)].split == "train"
    assert splits(alone(range(3)), before)[key(2)].split == "test"


def test_who_comes_later_joins_the_group() -> None:
    drawn = splits([Image(key(1), "a", "g"), Image(key(2), "a", "g")], {key(1): "test"})
    assert drawn[key(2)] == Drawn("test", "with its group")


def test_a_near_copy_of_images_in_several_splits_is_left_out() -> None:
    between = [Image(key(number), "a", "g") for number in range(3)]
    drawn = splits(between, {key(0): "train", key(1): "test"})
    assert [drawn[key(number)].split for number in range(3)] == ["train", "test", "left out"]


def test_another_seed_draws_anew() -> None:
    images = alone(range(500))
    assert splits(images) != splits(images, seed=1)


def test_no_test_image_is_held_out_where_the_source_has_its_own() -> None:
    assert "test" not in {found.split for found in splits(alone(range(300)), test=0.0).values()}
