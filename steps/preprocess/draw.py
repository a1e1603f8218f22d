"""Draws the split of each image from the image itself: pure functions of keys, labels, groups and earlier draws.

A group (near copies, or images that `data.group` names together) is drawn as one. Its place on a line from 0 to 1 is a
keyed hash of its smallest content key, so it depends neither on other groups nor on names, order or numbers. What was
drawn before stays, whatever is there now: no image that was once in `train` or `validation` comes to `test`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter

TRAIN, VALIDATION, TEST, LEFT_OUT = "train", "validation", "test", "left out"

_BY_HASH, _BEFORE, _WITH_GROUP = "by hash", "drawn before", "with its group"
_SMALL_CLASS, _PARTED = "one for a small class", "near copies of it are in several splits"


@dataclass(frozen=True, slots=True)
class Image:
    """What a draw knows of an image: its content key, its label, and its group's name."""

    key: str
    label: str
    group: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """The split of a key, and why."""

    split: str
    why: str


def draw(
    images: Sequence[Image],
    *,
    test: float,
    validation: float,
    seed: int,
    before: Mapping[str, str],
    before_groups: Mapping[str, str],
) -> dict[str, Drawn]:
    """The split of each content key.

    Args:
        images: All images of the source; equal keys are one image, and belong to one group.
        test: Share of `test`, from 0 (none is held out, as where the source brings a test set of its own) to 1.
        validation: Share of `validation`; `train` gets the rest.
        seed: Key of the hash, so that another one draws anew.
        before: Split of each key that was drawn earlier under these very settings.
        before_groups: Likewise of each group, by its name, of which no image may be left.

    Returns:
        For each key its split, and why it is there: `train`, `validation`, `test`, or `left out` for a new image that
        is a near copy of images in several splits.
    """
    stays = {split: Drawn(split, _BEFORE) for split in set(before.values())}
    # What was drawn stays; only groups with a new image, and others of the same classes, take more than a look.
    drawn = {image.key: stays[before[image.key]] for image in images if image.key in before}
    with_new = {image.group for image in images if image.key not in before}
    if not with_new:
        return drawn
    classes = {image.label for image in images if image.group in with_new}
    looked_at = with_new | {image.group for image in images if image.label in classes}
    # Sorted, since a dictionary a group would be most of the memory where each image is a group.
    by_group = sorted((image for image in images if image.group in looked_at), key=attrgetter("group"))
    new: dict[str, list[_Group]] = {}
    held: dict[str, dict[str, int]] = {}
    for name, together in groupby(by_group, key=attrgetter("group")):
        members: dict[str, Image] = {}
        for image in together:
            members.setdefault(image.key, image)
        known = {key: before[key] for key in members if key in before}
        label = members[min(members)].label
        if known:
            drawn |= _joined(members, known)
            for split in set(known.values()):
                counts = held.setdefault(label, {})
                counts[split] = counts.get(split, 0) + 1
        elif name in before_groups:
            drawn |= dict.fromkeys(members, _drawn(before_groups[name], _WITH_GROUP))
        else:
            new.setdefault(label, []).append(_Group(tuple(members), position(min(members), seed)))
    for label, of_class in new.items():
        for group, split, why in _first_draw(of_class, test, validation, held.get(label, {})):
            drawn |= dict.fromkeys(group.keys, _drawn(split, why))
    return drawn


def position(key: str, seed: int) -> float:
    """The place of a key on the line from 0 to 1, by BLAKE2b keyed with the seed."""
    found = hashlib.blake2b(key.encode(), digest_size=8, key=str(seed).encode()).digest()
    return int.from_bytes(found, "big") / 2**64


_drawn = cache(Drawn)  # one of each


@dataclass(frozen=True, slots=True)
class _Group:
    keys: tuple[str, ...]
    position: float


def _joined(members: Iterable[str], known: Mapping[str, str]) -> dict[str, Drawn]:
    """Where members of a group go of which some were drawn before: those stay, the others join them."""
    splits = set(known.values())
    late = Drawn(splits.pop(), _WITH_GROUP) if len(splits) == 1 else Drawn(LEFT_OUT, _PARTED)
    return {key: Drawn(known[key], _BEFORE) if key in known else late for key in members}


def _first_draw(
    groups: Iterable[_Group], test: float, validation: float, held: Mapping[str, int]
) -> list[tuple[_Group, str, str]]:
    """The splits of a class's new groups: by position, then one to each split that would have none, if it can be."""
    # `train` comes first, then `test`, then `validation`: a class of two groups has one in `train` and one in `test`.
    in_order = sorted(groups, key=lambda group: (group.position, group.keys))
    splits = {group: _by_position(group.position, test, validation) for group in in_order}
    why = dict.fromkeys(in_order, _BY_HASH)

    def count(split: str) -> int:
        return held.get(split, 0) + sum(one == split for one in splits.values())

    def give(wanted: str, candidates: Iterable[_Group], *, even_the_last_of: str = "") -> None:
        if count(wanted):
            return
        others = [group for group in candidates if splits[group] != wanted]
        rich = {split for split in (TRAIN, VALIDATION, TEST) if count(split) > 1}
        spare = [group for group in others if splits[group] in rich]
        for group in (*spare, *(group for group in others if splits[group] == even_the_last_of))[:1]:
            splits[group], why[group] = wanted, _SMALL_CLASS

    give(TRAIN, reversed(in_order), even_the_last_of=TEST)
    give(TRAIN, reversed(in_order), even_the_last_of=VALIDATION)
    if test:
        give(TEST, in_order, even_the_last_of=VALIDATION)
    if validation:
        give(VALIDATION, in_order)
    return [(group, splits[group], why[group]) for group in in_order]


def _by_position(place: float, test: float, validation: float) -> str:
    if place < test:
        return TEST
    return VALIDATION if place < test + validation else TRAIN
