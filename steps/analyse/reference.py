"""Keeps what a model answers to its test images: writes `reference.json`, with which served answers are compared."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.loop.reference import FILE, Reference
from steps.analyse.answers import Answers

MOST = 10_000  # distances: more make no comparison clearer
_DIGITS = 5  # significant ones


def write_reference(folder: Path, answers: Answers) -> None:
    """Write the file.

    Args:
        folder: Where it is written.
        answers: The answers to all test images.
    """
    count = len(answers.labels)
    rows = np.arange(count)
    if count > MOST:
        rows = np.sort(np.random.default_rng(0).choice(count, MOST, replace=False))
    found = answers.nearest
    features = None if found.features_distances is None else _rounded(found.features_distances[rows])
    reference = Reference(_rounded(found.distances[rows]), features, dict(Counter(answers.labels)))
    (folder / FILE).write_bytes(reference.to_bytes())


def _rounded(distances: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(f"{each:.{_DIGITS}g}") if np.isfinite(each) else None for each in distances)
