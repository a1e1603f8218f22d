"""The page on data: counts, samples of each class, copies. Reads splits; writes nothing.

What it gives does not grow with the data: of many classes it has some, and says of how many.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steps.analyse.page.pictures import evenly, strip
from steps.common.images.dataset import Split

_CLASSES = 50  # rows of the table
_WALL_CLASSES = 40
_WALL = 160  # pictures of the wall, over all classes
_A_CLASS = (3, 12)  # pictures of a class, at least and at most
_GROUPS = 6  # the largest groups of near copies, which are shown
_OF_GROUP = 8


@dataclass(frozen=True)
class Copies:
    """Of one split: its images, how many differ, and its groups of more than one image."""

    images: int
    distinct: int
    groups: int
    grouped: int
    largest: int


@dataclass(frozen=True)
class Wall:
    """Samples of a class in one picture."""

    label: str
    shown: int
    images: int
    picture: str


@dataclass(frozen=True)
class Data:
    """What the page shows.

    `counts` has the images of each shown class in each split, `total` those of all. `classes` is the number of classes
    in any split, `known` of those in the gallery.
    """

    counts: Mapping[str, Mapping[str, int]]
    total: Mapping[str, int]
    classes: int
    known: int
    gallery_is_train: bool
    copies: Mapping[str, Copies]
    wall: Sequence[Wall]
    groups: Sequence[Wall] = field(default_factory=list)


def describe(splits: Mapping[str, Split]) -> Data:
    """Describe the splits.

    Args:
        splits: By the names that `split_ids` gives.

    Returns:
        What the page shows of them.
    """
    every = {name: _counts(split) for name, split in splits.items()}
    classes = sorted({label for counts in every.values() for label in counts})
    train = every["train"]
    few = sorted(classes, key=lambda label: (train.get(label, 0), label))[:_CLASSES]
    return Data(
        counts={label: {name: counts.get(label, 0) for name, counts in every.items()} for label in sorted(few)},
        total={name: len(split) for name, split in splits.items()},
        classes=len(classes),
        known=len(splits["gallery"].classes),
        gallery_is_train=splits["gallery"].path == splits["train"].path,
        copies={name: _copies(split) for name, split in splits.items()},
        wall=_wall(splits["train"]),
        groups=_groups(splits["train"]),
    )


def _counts(split: Split) -> dict[str, int]:
    counts = np.bincount(split.labels, minlength=len(split.classes))
    return dict(zip(split.classes, counts.tolist(), strict=True))


def _copies(split: Split) -> Copies:
    sizes = [count for count in Counter(split.rows.groups).values() if count > 1]
    return Copies(len(split), len(set(split.rows.keys)), len(sizes), sum(sizes), max(sizes, default=0))


def _wall(split: Split) -> list[Wall]:
    shown = evenly(len(split.classes), _WALL_CLASSES).tolist() if split.classes else []
    least, most = _A_CLASS
    each = min(most, max(least, _WALL // max(1, len(shown))))
    found = []
    for number in shown:
        rows = np.flatnonzero(split.labels == number)
        if len(rows):
            some = rows[evenly(len(rows), each)].tolist()
            found.append(Wall(split.classes[number], len(some), len(rows), strip(split, some)))
    return found


def _groups(split: Split) -> list[Wall]:
    """The largest groups of images that stay in one split, near copies above all."""
    largest = [pair for pair in Counter(split.rows.groups).most_common(_GROUPS) if pair[1] > 1]
    rows: dict[str, list[int]] = {group: [] for group, _ in largest}
    for row, group in enumerate(split.rows.groups) if rows else ():
        if group in rows and len(rows[group]) < _OF_GROUP:
            rows[group].append(row)
    return [
        Wall(
            ", ".join(sorted({split.classes[split.labels[row]] for row in rows[group]})),
            len(rows[group]),
            count,
            strip(split, rows[group]),
        )
        for group, count in largest
    ]
