"""Chooses images of a large gallery, so that the size of their features is bounded; reads and writes nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST = 10_000  # images, or one of each class


def sample(labels: NDArray[np.int64], keys: Sequence[str]) -> NDArray[np.bool_]:
    """Which images of a gallery have their features stored: all of a small one, else equally many of each class.

    Args:
        labels: The class of each image, int64 [N].
        keys: Their content keys, which decide: so a gallery that grows keeps most of its sample. If there are not N,
            their order decides.

    Returns:
        bool [N].
    """
    if len(labels) <= MOST:
        return np.ones(len(labels), bool)
    drawn = np.array(keys) if len(keys) == len(labels) else np.arange(len(labels))
    by_class = np.lexsort((drawn, labels))
    of_class = labels[by_class]
    turn = np.empty(len(labels), np.int64)
    turn[by_class] = np.arange(len(labels)) - np.searchsorted(of_class, of_class)
    chosen = np.zeros(len(labels), bool)
    chosen[np.lexsort((drawn, turn))[: max(MOST, len(np.unique(labels)))]] = True
    return chosen
