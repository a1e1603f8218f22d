"""Plans the splits of a source's images, before any is decoded for training; reads and writes no files.

Images of one content key are one image. Near copies, and images that `data.group` names together, are a group, which
stays together. Where the source has a test set, what is also in it is taken out of training; what is tested on is taken
out of a gallery that the source gives.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steps.preprocess.copies import joined, near_copies, texts_of
from steps.preprocess.draw import LEFT_OUT, TEST, TRAIN, VALIDATION, Drawn, Image, draw
from steps.preprocess.ledger import Memory
from steps.preprocess.sources.source import role

GALLERY = "gallery"
_GIVEN = "given by the source"
_TESTED = "it, or a near copy of it, is tested on"


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a source: its part, its row there, its name, label and content key."""

    part: str
    row: int
    name: str
    label: str
    key: str

    @property
    def role(self) -> str:
        """What its part is for: `train`, `gallery` or `test`."""
        return role(self.part)


@dataclass(frozen=True, slots=True)
class Planned:
    """An image with its group, its split, and why."""

    item: Item
    group: str
    split: str
    why: str


@dataclass(frozen=True)
class Settings:
    """What decides a draw; `params.yaml`'s section `data` says what each means."""

    test_fraction: float
    validation_fraction: float
    seed: int
    near_copy: float
    group: str


def plan(
    items: Sequence[Item],
    settings: Settings,
    memory: Memory,
    thumbnails: Callable[[Sequence[Item]], NDArray[np.uint8]],
) -> list[Planned]:
    """Plan the split of every image.

    Args:
        items: All images of all parts: `train`, and where the source has them `gallery` and `test`.
        settings: What decides the draw.
        memory: What was drawn earlier under these settings.
        thumbnails: Gives uint8 [N, D], a row for each of N images; asked only if there are images not yet grouped.

    Returns:
        The images in their order, each with its group, split and the reason.
    """
    groups = _groups(items, settings, memory.groups, thumbnails)
    given = {groups[item.key] for item in items if item.role == TEST}
    to_draw = [item for item in items if item.role == TRAIN and groups[item.key] not in given]
    drawn = draw(
        [Image(item.key, item.label, groups[item.key]) for item in to_draw],
        test=0.0 if given else settings.test_fraction,
        validation=settings.validation_fraction,
        seed=settings.seed,
        before=memory.splits,
        before_groups=memory.of_groups(),
    )
    tested = given | {groups[key] for key, found in drawn.items() if found.split == TEST}

    def place(item: Item) -> Drawn:
        if item.role == TRAIN:
            return drawn.get(item.key, Drawn(LEFT_OUT, _TESTED))
        if item.role == GALLERY and groups[item.key] in tested:
            return Drawn(LEFT_OUT, _TESTED)
        return Drawn(item.role, _GIVEN)

    return [Planned(item, groups[item.key], *_pair(place(item))) for item in items]


def rows(planned: Iterable[Planned]) -> dict[str, list[Planned]]:
    """The images of each split, in the order of keys and labels; without a gallery of the source, `train` is in it."""
    found: dict[str, list[Planned]] = {TRAIN: [], VALIDATION: [], GALLERY: [], TEST: []}
    has_gallery = False
    for one in planned:
        has_gallery = has_gallery or one.item.part == GALLERY
        if one.split != LEFT_OUT:
            found[one.split].append(one)
    if not has_gallery and found[GALLERY]:
        found[GALLERY] += found[TRAIN]
        has_gallery = True
    for those in found.values():
        those.sort(key=lambda one: (one.item.key, one.item.label))
    return found if has_gallery else found | {GALLERY: found[TRAIN]}


def _pair(drawn: Drawn) -> tuple[str, str]:
    return drawn.split, drawn.why


def _groups(
    items: Sequence[Item],
    settings: Settings,
    known: Mapping[str, str],
    thumbnails: Callable[[Sequence[Item]], NDArray[np.uint8]],
) -> dict[str, str]:
    """The name of each key's group.

    Args:
        items: All images.
        settings: What decides groups.
        known: The group of each key that has one.
        thumbnails: As for `plan`.

    Returns:
        For each key the group that a member has already; else, where the pattern names one, the hash of its text, so
        that it is known again when none of its images is left; else the smallest key of its members.
    """
    if not settings.group and all(item.key in known for item in items):
        return {item.key: known[item.key] for item in items}
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.key, item)
    keys = list(first)
    number = {key: row for row, key in enumerate(keys)}
    texts = texts_of([item.name for item in items], settings.group)
    text_of: dict[int, str] = {}
    pairs, first_of = list[tuple[int, int]](), dict[str, int]()
    for item, text in zip(items, texts, strict=True):
        if text is not None:
            text_of.setdefault(number[item.key], text)
            pairs.append((first_of.setdefault(text, number[item.key]), number[item.key]))
    of_group: dict[str, int] = {}
    for key in keys:
        if key in known:
            row = of_group.setdefault(known[key], number[key])
            pairs.append((row, number[key]))
    new = np.array([number[key] for key in keys if key not in known], np.int64)
    if len(new) and settings.near_copy:
        pairs += near_copies(thumbnails([first[key] for key in keys]), settings.near_copy, new)
    members: dict[int, list[str]] = {}
    for key, group in zip(keys, joined(len(keys), pairs), strict=True):
        members.setdefault(group, []).append(key)
    names: dict[str, str] = {}
    for together in members.values():
        named = [
            hashlib.sha256(text_of[number[key]].encode()).hexdigest()[:32] for key in together if number[key] in text_of
        ]
        name = min((known[key] for key in together if key in known), default=min(named or together))
        names |= dict.fromkeys(together, name)
    return names
