"""Finds near copies among images by their thumbnails, and joins what belongs together into groups; reads no files."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 14  # pixels of a thumbnail's side
_NEIGHBOURS = 10  # looked at for each image; a larger crowd of copies is joined through one another
_FLAT_UP_TO = 20_000  # above it, searching all among all costs minutes
_CELLS_LOOKED_AT = 8


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
    import faiss

    vectors = _one_channel_if_grey(thumbnails).astype(np.float32)
    index: faiss.Index = faiss.IndexFlatL2(vectors.shape[1])
    if count > _FLAT_UP_TO:
        cells = int(4 * count**0.5)
        index = faiss.IndexIVFFlat(index, vectors.shape[1], cells)
        index.train(vectors[np.random.default_rng(0).permutation(count)[: 40 * cells]])
        index.nprobe = _CELLS_LOOKED_AT
    index.add(vectors)
    _, found = index.search(vectors[rows], min(_NEIGHBOURS + 1, count))
    left = np.repeat(rows, found.shape[1])
    right = found.ravel()
    keep = (right >= 0) & (left != right)
    pairs = np.unique(np.sort(np.stack([left[keep], right[keep]], axis=1), axis=1), axis=0)
    step = 1 << 16
    close = [
        np.abs(vectors[piece[:, 0]] - vectors[piece[:, 1]]).mean(axis=1) <= limit
        for piece in (pairs[start : start + step] for start in range(0, len(pairs), step))
    ]
    return [(int(a), int(b)) for a, b in pairs[np.concatenate(close)]] if close else []


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
