"""The plan of the splits: groups stay together and are remembered; a given test set and gallery are kept apart."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from steps.preprocess.ledger import Memory
from steps.preprocess.plan import Item, Planned, Settings, plan, rows

SETTINGS = Settings(test_fraction=0.2, validation_fraction=0.08, seed=0, near_copy=2.0, group="")


def key(number: int) -> str:
    return f"{number:032x}"


def item(number: int, part: str = "train", label: str = "a", name: str = "") -> Item:
    return Item(part, number, name or f"{part}/{label}/{number}.png", label, key(number))


def thumbnails(items: Sequence[Item]) -> np.ndarray:
    """Images whose numbers are 1,000 apart are near copies; all others are far from one another."""
    tens = [int(one.key, 16) for one in items]
    return np.stack(
        [np.random.default_rng(n % 1000).integers(0, 200, 196, dtype=np.uint8) + np.uint8(n // 1000) for n in tens]
    )


def planned(items: Sequence[Item], memory: Memory | None = None, settings: Settings = SETTINGS) -> list[Planned]:
    return plan(items, settings, memory or Memory(), thumbnails)


def remembered(found: Sequence[Planned]) -> Memory:
    drawn = {one.item.key: one.split for one in found if one.item.part == "train" and one.split != "left out"}
    return Memory(drawn, {one.item.key: one.group for one in found})


def test_near_copies_share_a_group_and_a_split() -> None:
    found = planned([item(number) for number in range(300)] + [item(1000 + number) for number in range(300)])
    assert all(one.group == key(one.item.row % 1000) for one in found)
    assert [one.split for one in found[:300]] == [one.split for one in found[300:]]


def test_near_copies_may_be_switched_off() -> None:
    off = Settings(0.2, 0.08, 0, 0, "")
    assert {one.group for one in planned([item(1), item(1001)], settings=off)} == {key(1), key(1001)}


def test_a_pattern_over_the_name_names_groups() -> None:
    items = [item(number, name=f"train/a/p{number % 7}_{number}.png") for number in range(70)]
    found = planned(items, settings=Settings(0.2, 0.08, 0, 2.0, r"/(p\d+)_"))
    of_person: dict[int, set[str]] = {}
    for one in found:
        of_person.setdefault(one.item.row % 7, set()).add(one.split)
    assert all(len(splits) == 1 for splits in of_person.values())
    assert len({one.group for one in found}) == 7


def test_a_named_group_is_remembered_when_none_of_its_images_is_left() -> None:
    people = Settings(0.2, 0.08, 0, 2.0, r"/(p\d+)_")
    first = planned([item(n, name=f"train/a/p{n:02}_1.png") for n in range(60)], settings=people)
    later = planned([item(n, name=f"train/a/p{n - 100:02}_2.png") for n in range(100, 160)], remembered(first), people)
    assert [one.split for one in later] == [one.split for one in first]


def test_who_comes_later_joins_its_group_and_only_new_images_are_looked_at() -> None:
    first = planned([item(number) for number in range(100)])
    asked: list[int] = []

    def counted(items: Sequence[Item]) -> np.ndarray:
        asked.append(len(items))
        return thumbnails(items)

    everything = [item(number) for number in range(100)] + [item(1000 + number) for number in range(50)]
    later = plan(everything, SETTINGS, remembered(first), counted)
    assert [one.split for one in later[:100]] == [one.split for one in first]
    assert [one.split for one in later[100:]] == [one.split for one in first[:50]]
    assert asked == [150]
    plan(everything, SETTINGS, remembered(later), counted)
    assert asked == [150]


def test_what_a_given_test_set_holds_is_taken_out_of_training() -> None:
    items = [item(number) for number in range(50)] + [item(1003, "test"), item(7, "test"), item(900, "test")]
    found = planned(items)
    out = [one.item.row for one in found if one.split == "left out"]
    assert out == [3, 7]
    assert {one.split for one in found[:50]} == {"train", "validation", "left out"}
    assert [one.split for one in found[50:]] == ["test", "test", "test"]


def test_what_is_tested_on_is_taken_out_of_a_given_gallery() -> None:
    training = [item(number) for number in range(200)]
    found = planned(training + [item(1000 + number, "gallery") for number in range(200)] + [item(500, "gallery")])
    by_row = {one.item.row: one.split for one in found[:200]}
    for one in found[200:400]:
        wanted = "left out" if by_row[one.item.row - 1000] == "test" else "gallery"
        assert one.split == wanted
    assert found[-1].split == "gallery"


def test_the_gallery_is_the_training_split_where_none_is_given() -> None:
    found = rows(planned([item(number) for number in range(100)]))
    assert found["gallery"] == found["train"]
    assert rows(planned([item(1), item(2, "gallery")]))["gallery"] != found["train"]


def test_rows_follow_keys_and_not_the_order_of_files() -> None:
    items = [item(number) for number in range(100)]
    keys = {split: [one.item.key for one in those] for split, those in rows(planned(items)).items()}
    again = {split: [one.item.key for one in those] for split, those in rows(planned(items[::-1])).items()}
    assert keys == again
    assert all(those == sorted(those) for those in keys.values())


@given(st.lists(st.lists(st.integers(0, 40), max_size=30, unique=True), min_size=2, max_size=5))
@hypothesis_settings(max_examples=60, deadline=None)
def test_nothing_that_was_learned_from_is_ever_tested_on(states: list[list[int]]) -> None:
    """Numbers are images; each class has every third one, and 1,000 more is a near copy."""
    memory, learned = Memory(), set[str]()
    for turn, state in enumerate(states):
        items = [item(number + 1000 * (turn % 2 and number % 5 == 0), label="abc"[number % 3]) for number in state]
        found = planned(items, memory)
        assert not learned & {one.item.key for one in found if one.split == "test"}
        learned |= {one.item.key for one in found if one.split in ("train", "validation")}
        new = remembered(found)
        memory = Memory({**new.splits, **memory.splits}, {**new.groups, **memory.groups})


@pytest.mark.parametrize("count", [0, 1])
def test_few_images_are_no_trouble(count: int) -> None:
    assert [one.split for one in planned([item(number) for number in range(count)])] == ["train"] * count
