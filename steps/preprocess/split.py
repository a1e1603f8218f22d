"""Splits images into parts: stratified, seeded, and never with the same image on both sides."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def stratify(
    labels: Sequence[str], keys: Sequence[str], fractions: Mapping[str, float], rest: str, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Sorted rows of each part: of every class the fraction asked for, the others to `rest`.

    Rows with equal keys, which are the same image, stay together. A class of few images gives each part at least one
    as long as `rest` keeps one. A class's draw depends on the seed and its own images, not on the other classes.
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
