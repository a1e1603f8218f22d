"""What a model has had that the served one has not; reads and writes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steps.common.images.dataset import Split
from steps.common.models.seen import Seen, fresh, hashes

_MODEL = ("train", "validation", "gallery")  # what a model has had


@dataclass(frozen=True)
class Change:
    """What differs from the data of the model that is served: images, and classes.

    `per_class` counts the new images of each class; those that are gone are known by number alone.
    """

    version: str
    new: int
    gone: int
    per_class: Mapping[str, int]
    new_classes: Sequence[str]
    lost_classes: Sequence[str]


def change(splits: Mapping[str, Split], version: str, own: Seen, served: Seen, lost: Sequence[str]) -> Change:
    """Say what a model has had that the served one has not.

    Args:
        splits: By the names that `split_ids` gives.
        version: The served version.
        own: What the model has had.
        served: What the served one has had.
        lost: Classes that the served one knows, and the model does not.

    Returns:
        The difference; a class whose images are all new counts as new.
    """
    labels: dict[str, str] = {}
    for name in _MODEL:
        split = splits[name]
        labels |= dict(zip(split.rows.keys, (split.classes[label] for label in split.labels), strict=True))
    is_new = ~np.isin(hashes([*labels]), served.keys)
    images = Counter(labels.values())
    per_class = Counter(label for label, new in zip(labels.values(), is_new.tolist(), strict=True) if new)
    whole = sorted(label for label, count in per_class.items() if count == images[label])
    return Change(version, fresh(own, served), fresh(served, own), per_class, whole, sorted(lost))


def sentence(images: Mapping[str, int], changed: Change | str) -> str:
    """What a model is made of, in a sentence.

    Args:
        images: The number of images in each split.
        changed: What differs from the served model's data, or why that is not said.

    Returns:
        The sentence.
    """
    counts = ", ".join(f"{name} {count}" for name, count in images.items())
    if isinstance(changed, str):
        return f"{counts}; {changed[0].lower()}{changed[1:]}"
    return f"{counts}; since {changed.version} {changed.new} images are new and {changed.gone} gone"
