"""How near images lie to classes that are not theirs: what they would find if their own class were not known."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steps.analyse.advice.neighbours import Gallery, chunks

FILE = "open-set.json"  # the distances, beside an evaluation
MOST = 500  # images


def write_open_set(folder: Path, gallery: Gallery, queries: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Write the cosine distances of images to the nearest gallery image of another class, in order.

    Args:
        folder: Where they are written.
        gallery: The gallery.
        queries: float32 [Q, D], of length one.
        labels: int64 [Q], in the gallery's numbers, and -1 for a class that it lacks.
    """
    distances = 1 - nearest_of_others(gallery, queries, labels)
    found = np.sort(distances[np.isfinite(distances)]).round(5)
    (folder / FILE).write_text(json.dumps(found.tolist()) + "\n")


def nearest_of_others(gallery: Gallery, queries: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest cosine of each of Q images to one of another label, float64 [Q]; -infinity where there is none."""
    best = np.full(len(queries), -np.inf)
    for part in chunks(len(gallery.labels)):
        cosines = queries @ gallery.embeddings[part].T
        others = gallery.labels[part][None, :] != labels[:, None]
        best = np.maximum(best, np.where(others, cosines, -np.inf).max(1, initial=-np.inf))
    return best
