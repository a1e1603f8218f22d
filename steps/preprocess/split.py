"""Splits images into parts, stratified and seeded, with all copies of an image in one part. Reads no file."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def stratify(
    labels: Sequence[str], keys: Sequence[str], fractions: Mapping[str, float], rest: str, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Split rows into parts by class.

    Rows with equal keys, which are the same image, stay together. A small class gives each part at least one image,
    as long as one is left for `rest`. The draw of a class depends on the seed and on its own images alone.

    Args:
        labels: The label of each of N rows.
        keys: The key of each row, equal only for equal images.
        fractions: The fraction of each class that goes to a part, by the name of the part.
        rest: The name of the part that gets the other rows.
        seed: Draws the rows of each part.

    Returns:
        The rows of each part, int64, sorted.
    """
    parts: dict[str, list[int]] = {name: [] for name in (*fractions, rest)}
    rows_of: dict[str, dict[str, list[int]]] = {}
    owner: dict[str, str] = {}
    for row, (label, key) in enumerate(zip(labels, keys, strict=True)):
        rows_of.setdefault(owner.setdefault(key, label), {}).setdefault(key, []).append(row)
    for label, groups in rows_of.items():
        order = np.random.default_rng([seed, *label.encode()]).permutation(sorted(groups)).tolist()
        for name, fraction in fractions.items():
            count = max(round(len(groups) * fraction), 1 if fraction > 0 else 0)
            taken, order = order[: min(count, len(order) - 1)], order[min(count, len(order) - 1) :]
            parts[name] += [row for key in taken for row in groups[key]]
        parts[rest] += [row for key in order for row in groups[key]]
    return {name: np.array(sorted(rows), np.int64) for name, rows in parts.items()}
