"""The nearest gallery images of an image, without itself and its near copies; reads and writes nothing.

The search is exhaustive, a part of the gallery at a time, so `sample` bounds how many images are looked for.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

COUNT = 10  # neighbours that vote
_LEAST = 5  # fewer do not judge a label
_AGREE = 0.8  # share of the neighbours that must have one label
_SPARE = 11  # looked for beside those: the image itself, and its near copies
_MOST = 5_000  # images looked for, of a split
_MOST_NUMBERS = 1 << 36  # multiplied in one search: seconds of two cores
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Votes:
    """What the neighbours of each of Q images say.

    `nearest` int64 [Q] is the gallery's row of the nearest one, -1 for none; `label` int64 [Q] the most frequent label
    among them, `share` float64 [Q] its share, and `cosine` float64 [Q] the mean cosine of those neighbours. `judged`
    bool [Q] says whether there are enough neighbours for a label to be judged, and enough other images of its own.
    """

    nearest: NDArray[np.int64]
    label: NDArray[np.int64]
    share: NDArray[np.float64]
    cosine: NDArray[np.float64]
    judged: NDArray[np.bool_]

    @property
    def agree(self) -> NDArray[np.bool_]:
        """Whether an image's neighbours are enough, and agree."""
        return self.judged & (self.share >= _AGREE)


@dataclass(frozen=True)
class Gallery:
    """Embeddings float32 [N, D] of length one, labels int64 [N], and groups of near copies int64 [N], by number."""

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def most(gallery: Gallery) -> int:
    """How many images may be looked for in a gallery."""
    return max(1, min(_MOST, _MOST_NUMBERS // max(1, gallery.embeddings.size)))


def sample(count: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` of so many rows, in order: the same ones each time."""
    return np.sort(np.random.default_rng(0).permutation(count)[:wanted]).astype(np.int64)


def far_from_their_class(gallery: Gallery, wanted: int) -> NDArray[np.int64]:
    """The rows at the smallest cosine to the mean of their class, among which wrong labels are."""
    count = len(gallery.labels)
    means = np.zeros((int(gallery.labels.max(initial=-1)) + 1, gallery.embeddings.shape[1]), np.float64)
    for part in chunks(count):
        order = np.argsort(gallery.labels[part], kind="stable")
        labels, first = np.unique(gallery.labels[part][order], return_index=True)
        means[labels] += np.add.reduceat(gallery.embeddings[part][order], first, axis=0, dtype=np.float64)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    near = np.empty(count)
    for part in chunks(count):
        near[part] = np.einsum("nd,nd->n", gallery.embeddings[part], means[gallery.labels[part]].astype(np.float32))
    return np.sort(np.argsort(near, kind="stable")[:wanted])


def vote(gallery: Gallery, queries: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> Votes:
    """Let the nearest neighbours of images vote: those of other groups, and one of each group.

    Args:
        gallery: Where neighbours are.
        queries: float32 [Q, D].
        labels: int64 [Q], in the gallery's numbers, and -1 for a class that it lacks.
        groups: int64 [Q], likewise.

    Returns:
        The votes.
    """
    cosines, rows = _search(gallery.embeddings, queries, min(COUNT + _SPARE, len(gallery.labels)))
    of = np.where(rows >= 0, gallery.groups[rows], -1)
    repeated = np.tril(of[:, :, None] == of[:, None, :], -1).any(2)  # a crowd of near copies has one vote
    valid = (rows >= 0) & (of != groups[:, None]) & ~repeated
    valid &= np.cumsum(valid, axis=1) <= COUNT
    found = valid.sum(1)
    voted = np.where(valid, gallery.labels[rows], -1)
    tally = ((voted[:, :, None] == voted[:, None, :]) & valid[:, None, :]).sum(2) * valid
    best = tally.argmax(1)
    every = np.arange(len(queries))
    label = np.where(found > 0, voted[every, best], -1)
    winners = valid & (voted == label[:, None])
    first = valid.argmax(1)
    return Votes(
        nearest=np.where(found > 0, rows[every, first], -1),
        label=label,
        share=tally[every, best] / np.maximum(found, 1),
        cosine=(cosines * winners).sum(1) / np.maximum(winners.sum(1), 1),
        judged=(found >= _LEAST) & (_others_of_own_class(gallery, labels, groups) >= _LEAST),
    )


def _others_of_own_class(gallery: Gallery, labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many groups of the gallery have an image of the same label, without the own group."""
    size = int(max(gallery.groups.max(initial=0), groups.max(initial=0))) + 1
    there = np.unique(gallery.labels * size + gallery.groups)
    counts = np.bincount(there // size, minlength=int(gallery.labels.max(initial=-1)) + 2)
    own = np.isin(labels * size + groups, there)
    return np.where(labels >= 0, counts[labels] - own, 0)


def nearest_of_class(
    gallery: Gallery, queries: NDArray[np.float32], label: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The gallery's image of this class that is nearest to each of Q images.

    Args:
        gallery: Where it is, with at least one image of the class.
        queries: float32 [Q, D].
        label: The number of the class.

    Returns:
        The cosines float32 [Q], and the rows int64 [Q].
    """
    of_class = np.flatnonzero(gallery.labels == label)
    cosines, rows = np.full(len(queries), -np.inf, np.float32), np.zeros(len(queries), np.int64)
    for part in chunks(len(of_class)):
        found = queries @ gallery.embeddings[of_class[part]].T
        best = found.argmax(1)
        nearer = found.max(1) > cosines
        cosines[nearer], rows[nearer] = found.max(1)[nearer], of_class[part][best][nearer]
    return cosines, rows


def _search(
    gallery: NDArray[np.float32], queries: NDArray[np.float32], wanted: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The cosines float32 [Q, wanted] and rows int64 [Q, wanted] of the nearest vectors, the nearest first."""
    cosines = np.full((len(queries), wanted), -np.inf, np.float32)
    rows = np.full((len(queries), wanted), -1, np.int64)
    for part in chunks(len(gallery)) if len(queries) else ():
        chunk = np.ascontiguousarray(gallery[part])
        near, found = faiss.knn(queries, chunk, min(wanted, len(chunk)), faiss.METRIC_INNER_PRODUCT)
        cosines = np.concatenate([cosines, near], axis=1)
        rows = np.concatenate([rows, found + part.start], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :wanted]
        cosines, rows = np.take_along_axis(cosines, best, 1), np.take_along_axis(rows, best, 1)
    return np.where(rows >= 0, cosines, 0), rows


def chunks(count: int) -> list[slice]:
    """The gallery, a part at a time, so that a large one fits in memory."""
    return [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
