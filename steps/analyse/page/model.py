"""The page on the model: confused pairs, the map of the gallery, similarity as confidence.

Reads an evaluation and the gallery's embeddings; writes nothing. What it gives does not grow with images or classes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.analyse.advice.open_set import FILE as OPEN_SET
from steps.analyse.answers import UNKNOWN, read_answers, read_distances, true_labels
from steps.analyse.page.pictures import strip
from steps.common.images.dataset import Split
from steps.common.statistics.interval import Interval, wilson

_POINTS = 2_000  # of the map
_COLOURED = 20  # classes of the map that have a colour; more cannot be told apart
_BINS = 10
_CURVE = 60  # points of the open-set curve
_OF_PAIR = 6  # pictures


@dataclass(frozen=True)
class Pair:
    """Two classes of which one is answered for the other, with pictures of such images."""

    true: str
    answer: str
    images: int
    shown: int
    picture: str


@dataclass(frozen=True)
class Cluster:
    """A class on the map: its points and their middle, each two numbers from 0 to 1; all others have no label."""

    label: str
    points: list[list[float]]
    middle: list[float]


@dataclass(frozen=True)
class GalleryMap:
    """Embeddings on a plane: `explained` is the share of their variance that it keeps.

    `shown` of `images` are on it, and `others` classes have no colour.
    """

    clusters: list[Cluster]
    explained: float
    shown: int
    images: int
    others: int


@dataclass(frozen=True)
class Bin:
    """Test images of about one similarity: its mean, and how many are right of those that got a label."""

    similarity: float
    right: int
    images: int
    interval: Interval


@dataclass(frozen=True)
class OpenSet:
    """What other limits would do: a number for each in `accepted` and in `right`.

    `accepted` are shares of images without their class that would still get a label, `right` shares of all test images
    that would get the right one. `now` is the pair at the limit of today, None without one.
    """

    accepted: list[float]
    right: list[float]
    now: tuple[float, float] | None
    images: int


def pairs(split: Split, evaluation: Path, confused: Sequence[Sequence[Any]]) -> list[Pair]:
    """The most confused pairs with pictures.

    Args:
        split: The test split.
        evaluation: The folder of the evaluation.
        confused: True label, answer and number of images of each pair.

    Returns:
        The pairs, in their order.
    """
    answers, _, _ = read_answers(evaluation, len(split))
    true = np.array(true_labels(split), object)
    found = []
    for expected, answer, images in confused:
        rows = np.flatnonzero((true == expected) & (answers == answer))[:_OF_PAIR].tolist()
        if rows:
            found.append(Pair(expected, answer, images, len(rows), strip(split, rows)))
    return found


def gallery_map(embeddings: NDArray[np.float32], gallery: Split, first: Sequence[str]) -> GalleryMap | None:
    """Lay the gallery out on a plane: by principal components, from FAISS.

    Args:
        embeddings: float32 [N, D].
        gallery: The N images.
        first: Labels that get a colour before others.

    Returns:
        The map; None of fewer than three images or two numbers, or where all lie at one point.
    """
    count = len(embeddings)
    rows = np.sort(np.random.default_rng(0).permutation(count)[:_POINTS])
    rows = rows[np.isfinite(embeddings[rows]).all(1)]
    if len(rows) < 3 or embeddings.shape[1] < 2:
        return None
    some = np.ascontiguousarray(embeddings[rows], np.float32)
    analysis = faiss.PCAMatrix(some.shape[1], 2)
    analysis.train(some)
    plane = analysis.apply(some)
    variances = np.clip(faiss.vector_to_array(analysis.eigenvalues), 0, None)
    low, span = plane.min(0), float(np.ptp(plane, 0).max())
    if not span > 0:
        return None
    plane = (plane - low - np.ptp(plane, 0) / 2) / span + 0.5
    labels = gallery.labels[rows]
    sizes = np.bincount(labels, minlength=len(gallery.classes))
    order = {label: place for place, label in enumerate(first)}
    present = sorted(np.flatnonzero(sizes).tolist(), key=lambda n: (order.get(gallery.classes[n], len(order)), n))
    coloured = sorted(present[:_COLOURED])
    clusters = [_cluster(gallery.classes[number], plane[labels == number]) for number in coloured]
    rest = plane[~np.isin(labels, coloured)]
    if len(rest):
        clusters.insert(0, _cluster("", rest))
    explained = float(variances[:2].sum() / max(float(variances.sum()), 1e-12))
    return GalleryMap(clusters, explained, len(rows), count, len(present) - len(coloured))


def reliability(split: Split, evaluation: Path) -> list[Bin]:
    """How often the answer is right where the nearest neighbour is about so near.

    Args:
        split: The test split.
        evaluation: The folder of the evaluation.

    Returns:
        Bins of about as many images each, by their similarity; none without answers that are a label.
    """
    answers, _, asked = read_answers(evaluation, len(split))
    similarity = 1 - read_distances(evaluation)
    rows = np.flatnonzero(asked & np.isfinite(similarity) & (answers != UNKNOWN))
    right = answers == np.array(true_labels(split), object)
    rows = rows[np.argsort(similarity[rows], kind="stable")]
    found = []
    for part in np.array_split(rows, _BINS):
        if len(part):
            hits = int(right[part].sum())
            found.append(Bin(float(similarity[part].mean()), hits, len(part), wilson(hits, len(part))))
    return found


def open_set(split: Split, evaluation: Path, limit: float | None) -> OpenSet | None:
    """What other limits of `unknown` would do to images of classes that are not known.

    Args:
        split: The test split.
        evaluation: The folder of the evaluation.
        limit: The limit of today, of cosine distances.

    Returns:
        The curve; None where the gallery has one class alone.
    """
    foreign = np.array(json.loads((evaluation / OPEN_SET).read_text()), np.float64)
    answers, _, _ = read_answers(evaluation, len(split))
    distances = read_distances(evaluation)
    right = distances[answers == np.array(true_labels(split), object)]
    if not len(foreign) or not len(distances):
        return None

    def at(limits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        accepted = np.searchsorted(np.sort(foreign), limits, side="right") / len(foreign)
        return accepted, np.searchsorted(np.sort(right), limits, side="right") / len(distances)

    every = np.sort(np.concatenate([foreign, right]))
    limits = every[np.unique(np.linspace(0, len(every) - 1, _CURVE).astype(np.int64))]
    accepted, kept = at(limits)
    now = None
    if limit is not None:
        today = at(np.array([limit]))
        now = (float(today[0][0]), float(today[1][0]))
    return OpenSet([0.0, *accepted.tolist()], [0.0, *kept.tolist()], now, len(foreign))


def _cluster(label: str, points: NDArray[np.float32]) -> Cluster:
    return Cluster(label, np.round(points, 4).tolist(), np.median(points, axis=0).round(4).tolist())
