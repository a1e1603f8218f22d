"""Whether images keep their labels when they are mirrored, as a look at neighbours tells: reads some of two splits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from steps.common.images.dataset import Split

_GALLERY, _QUERIES = 5000, 1000  # images at most; rows are in the order of content keys, so the first are any
_SIDE = 16  # pixels a side, to which images are reduced
_AT_ONCE = 256
_KEPT = 0.8  # of the right answers, which mirrored images must get, too
_OF_A_CLASS = 0.5  # likewise of each class
_DEVIATIONS = 2  # standard ones, by which a share must differ before that counts


@dataclass(frozen=True)
class Mirrored:
    """What mirrored images get: shares of right answers of images as they are, and mirrored; and whether they may be.

    Labels survive if the answers to images as they are tell something, and those to mirrored ones nearly as much, of
    each class.
    """

    as_they_are: float
    mirrored: float
    survive: bool


def look(train: Split, validation: Split) -> Mirrored:
    """Ask for the nearest training image of others, as they are and mirrored.

    Images are compared by the cosine of their pixels, reduced and without their mean. Those of validation are asked
    about first; few are made up with images of `train`, each compared with those of other groups alone.

    Args:
        train: The images to compare with.
        validation: The images to ask about.

    Returns:
        What was found.
    """
    gallery = _reduced(train, min(len(train), _GALLERY))
    queries = _reduced(validation, min(len(validation), _QUERIES))
    more = max(0, min(_QUERIES - len(queries), len(gallery)))
    mean = gallery.mean(0)
    groups = np.array(train.rows.groups[: len(gallery)])
    names = np.array(train.classes)[train.labels[: len(gallery)]]
    no_group = np.full(len(queries), "")
    asked = [(queries, np.array(validation.classes)[validation.labels[: len(queries)]], no_group)]
    if more:
        asked.append((gallery[:more], names[:more], groups[:more]))
    known = functional.normalize((gallery - mean).flatten(1))
    right: dict[bool, list[NDArray[np.bool_]]] = {False: [], True: []}
    for images, labels, own in asked:
        for mirrored, found in right.items():
            turned = images.flip(2) if mirrored else images
            cosines = functional.normalize((turned - mean).flatten(1)) @ known.T
            cosines[torch.from_numpy(own[:, None] == groups)] = -1
            found.append(names[cosines.argmax(1).numpy()] == labels)
    labels = np.concatenate([labels for _, labels, _ in asked])
    return _judged(np.concatenate(right[False]), np.concatenate(right[True]), labels)


def _judged(right: NDArray[np.bool_], mirrored: NDArray[np.bool_], labels: NDArray[np.str_]) -> Mirrored:
    """Of right answers bool [N] to images as they are and mirrored, and their labels [N]."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    chance = float((shares**2).sum())
    told = right.mean() > chance + _DEVIATIONS * np.sqrt(chance * (1 - chance) / len(labels))
    kept = mirrored.sum() >= _KEPT * right.sum()
    classes = all(_keeps(right[of], mirrored[of]) for of in (labels == label for label in np.unique(labels)))
    return Mirrored(float(right.mean()), float(mirrored.mean()), bool(told and kept and classes))


def _keeps(right: NDArray[np.bool_], mirrored: NDArray[np.bool_]) -> bool:
    """Whether no less than enough of a class's right answers stay right, as far as their number can tell."""
    count = int(right.sum())
    spread = _DEVIATIONS * np.sqrt(_OF_A_CLASS * (1 - _OF_A_CLASS) * count)
    return bool(mirrored[right].sum() >= _OF_A_CLASS * count - spread)


def _reduced(split: Split, count: int) -> torch.Tensor:
    """The first images of a split, float32 [count, side, side, C], of _SIDE pixels a side at most."""

    def pieces() -> Iterator[torch.Tensor]:
        for start in range(0, count, _AT_ONCE):
            pixels = torch.from_numpy(split.images[slice(start, min(count, start + _AT_ONCE))]).permute(0, 3, 1, 2)
            small = functional.adaptive_avg_pool2d(pixels.float(), min(_SIDE, pixels.shape[-1]))
            yield small.permute(0, 2, 3, 1)

    return torch.cat(list(pieces()))
