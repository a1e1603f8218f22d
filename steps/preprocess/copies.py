"""Finds near copies among images by their thumbnails, and joins what belongs together into groups; reads no files."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NEIGHBOURS = 10  # looked at for each image; a larger crowd of copies is joined through one another
_COMPARED_ALL_UP_TO = 20_000**2  # pairs; more cost minutes, so that cells of a space are searched
_CHUNK = 1 << 14
_ROUNDING = 1.01  # of squared distances in float32
_CELLS_LOOKED_AT = 8
_Nearest = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]


def near_copies(
    thumbnails: NDArray[np.uint8], limit: float, new: NDArray[np.int64] | None = None
) -> list[tuple[int, int]]:
    """Pairs of rows whose thumbnails differ by at most `limit` grey levels a pixel, in the mean.

    Args:
        thumbnails: uint8 [N, D], a flattened thumbnail a row.
        limit: Greatest mean absolute difference, in grey levels from 0 to 255; 0 finds none.
        new: Rows int64 [M] to find copies of, among all; all rows if None.

    Returns:
        Pairs of rows, the smaller first, each once.
    """
    count = len(thumbnails)
    rows = np.arange(count) if new is None else new
    if limit <= 0 or count < 2 or not len(rows):
        return []
    thumbnails = _one_channel_if_grey(thumbnails)
    # A sum of differences is not below the root of the sum of their squares, which is what the search gives.
    furthest = (limit * thumbnails.shape[1]) ** 2 * _ROUNDING
    close = [np.empty(0, np.int64)]
    for some, distances, numbers in _neighbours(thumbnails, rows, min(_NEIGHBOURS + 1, count)):
        left, right = np.repeat(some, numbers.shape[1]), numbers.ravel()
        keep = (right >= 0) & (left != right) & (distances.ravel() <= furthest)
        left, right = left[keep], right[keep]
        pairs = np.unique(np.minimum(left, right) * count + np.maximum(left, right))
        for piece in (pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)):
            close.append(piece[_differences(thumbnails, piece // count, piece % count) <= limit])
    return [(pair // count, pair % count) for pair in np.unique(np.concatenate(close)).tolist()]


def _neighbours(vectors: NDArray[np.uint8], rows: NDArray[np.int64], wanted: int) -> Iterator[_Nearest]:
    """The nearest vectors of these rows, some rows at a time, so that memory is for vectors and not for floats.

    Yields:
        Rows int64 [M], squared distances float32 [M, wanted], and numbers int64 [M, wanted], -1 for none.
    """
    import faiss

    count, size = vectors.shape
    if len(rows) * count <= _COMPARED_ALL_UP_TO:
        yield rows, *_nearest_of_all(vectors, rows, wanted)
        return
    cells = int(4 * count**0.5)
    kind = faiss.ScalarQuantizer.QT_8bit_direct  # a byte a pixel, as they are
    quantizer = faiss.IndexFlatL2(size)
    index = faiss.IndexIVFScalarQuantizer(quantizer, size, cells, kind, faiss.METRIC_L2, False)
    index.train(vectors[np.random.default_rng(0).permutation(count)[: 40 * cells]].astype(np.float32))
    index.nprobe = _CELLS_LOOKED_AT
    for start in range(0, count, _CHUNK):
        index.add(vectors[start : start + _CHUNK].astype(np.float32))
    for start in range(0, len(rows), _CHUNK):
        some = rows[start : start + _CHUNK]
        yield some, *index.search(vectors[some].astype(np.float32), wanted)


def _nearest_of_all(
    vectors: NDArray[np.uint8], rows: NDArray[np.int64], wanted: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    import faiss

    queries = vectors[rows].astype(np.float32)
    distances = np.full((len(rows), wanted), np.inf, np.float32)
    numbers = np.full((len(rows), wanted), -1, np.int64)
    for start in range(0, len(vectors), _CHUNK):
        chunk = vectors[start : start + _CHUNK].astype(np.float32)
        near, found = faiss.knn(queries, chunk, min(wanted, len(chunk)))
        distances = np.concatenate([distances, near], axis=1)
        numbers = np.concatenate([numbers, found + start], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :wanted]
        distances, numbers = np.take_along_axis(distances, best, 1), np.take_along_axis(numbers, best, 1)
    return distances, numbers


def _differences(
    vectors: NDArray[np.uint8], one: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.floating[Any]]:
    """The mean absolute difference of each pair of rows."""
    difference: NDArray[np.floating[Any]] = np.abs(vectors[one].astype(np.int16) - vectors[other]).mean(axis=1)
    return difference


def _one_channel_if_grey(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thumbnails uint8 [N, side * side * 3]; of grey ones a third, whose mean differences are the same."""
    if thumbnails.shape[1] % 3:
        return thumbnails
    red, green, blue = (thumbnails[:, channel::3] for channel in range(3))
    return red if (red == green).all() and (green == blue).all() else thumbnails


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """For each of `count` rows the number of its group: of the rows that pairs join, through any number of them."""
    if not pairs:
        return list(range(count))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    one, other = np.array(pairs).T
    edges = coo_array((np.ones(len(pairs), np.int8), (one, other)), shape=(count, count))
    return [int(group) for group in connected_components(edges, directed=False)[1]]


def texts_of(names: Sequence[str], pattern: str) -> list[str | None]:
    """What a pattern matches in each name: its first group, or all of the match without one; None where it does not."""
    expression = re.compile(pattern)
    matches = [expression.search(name) if pattern else None for name in names]
    return [match[1 if expression.groups else 0] if match else None for match in matches]
