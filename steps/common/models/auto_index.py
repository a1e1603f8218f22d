"""The index that `auto` stands for: exhaustive where that is fast, else a graph that finds nearly every nearest one.

Reads and writes nothing. Which of the two follows from the number of vectors and their length alone, not from how fast
this machine is, so that the same gallery has the same kind of index everywhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.common.models import faiss_index

AUTO = "auto"
FLAT, GRAPH = "Flat", "HNSW32"
# HNSW's efConstruction: how many neighbours are kept in mind for each vector that is added. With FAISS's own, 40, a
# graph of many alike vectors misses some nearest ones at any effort of the search.
_CONSTRUCTION = 200
# Vectors, and vectors times their length. Up to so many `Flat` answers 32 queries within about a millisecond on one
# core: see `python -m benchmarks index`.
_MOST_VECTORS = 8_000
MOST_FLAT = 400_000
# To build a graph of so many numbers anew takes some seconds, and then it does not depend on earlier galleries.
CHEAP = 2_000_000
RECALL = 0.99
_MOST_ADDED = 0.2  # of what a graph holds: its upper layers are drawn for as many as it was built of
_EFFORTS = (16, 32, 64, 128, 256, 512)  # HNSW's efSearch: how many neighbours a search keeps in mind
_QUERIES = 1_000
_SAME = 1e-6  # of a cosine: two vectors so alike are one nearest neighbour as good as the other


def meant(factory: str, count: int, size: int) -> str:
    """The factory string that is meant: `auto` by the number of vectors and their length, any other by itself."""
    if factory != AUTO:
        return factory
    return FLAT if count <= most_flat(size) else GRAPH


def most_flat(size: int) -> int:
    """The most vectors of this length for which `auto` is exhaustive."""
    return min(_MOST_VECTORS, MOST_FLAT // size)


@dataclass(frozen=True)
class Made:
    """An index; `order` int64 [N], the vector that each of its rows holds; and facts about it."""

    index: faiss.Index
    order: NDArray[np.int64]
    facts: dict[str, Any]


def build(vectors: NDArray[np.float32], earlier: Iterable[tuple[str, faiss.Index]] = ()) -> Made:
    """The index that `auto` stands for.

    The graph is built by one thread: by several its edges would follow from their timing.

    Args:
        vectors: float32 [N, D] of length one.
        earlier: Graphs of earlier galleries with their ids, the newest first. Where to build a graph anew is not cheap,
            new vectors are added to one that holds the others and nothing else.

    Returns:
        The index, with the facts `factory`; of a graph `recall_at_1`, as measured, and `ef_search`, the least effort
        that reaches `RECALL`; and `added_to`, the earlier one, if there was one. Where no effort reaches it, the index
        is exhaustive, and the recall is that of the graph.
    """
    rows = np.arange(len(vectors))
    if meant(AUTO, *vectors.shape) == FLAT:
        return Made(faiss_index.build(vectors, FLAT), rows, {"factory": FLAT})
    exact = faiss_index.build(vectors, FLAT)
    queries, nearest = _queries(vectors, exact)
    for id, graph in earlier if vectors.size > CHEAP else ():
        with _one_thread():
            order = _grow(graph, vectors)
        if order is not None and (tuned := _tune(graph, queries, nearest))["recall_at_1"] >= RECALL:
            return Made(graph, order, {**tuned, "added_to": id})
    with _one_thread():
        graph = faiss_index.build(vectors, GRAPH, _CONSTRUCTION)
    tuned = _tune(graph, queries, nearest)
    if tuned["recall_at_1"] < RECALL:
        return Made(exact, rows, {"factory": FLAT, "recall_at_1": tuned["recall_at_1"]})
    return Made(graph, rows, tuned)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _grow(graph: faiss.Index, vectors: NDArray[np.float32]) -> NDArray[np.int64] | None:
    """Add the vectors that a graph lacks.

    Args:
        graph: The graph, which is changed.
        vectors: All that it shall hold, float32 [N, D].

    Returns:
        The vector of each row of the graph; None, and the graph as it was, if it holds others, or lacks too many.
    """
    lacking = len(vectors) - graph.ntotal
    if graph.d != vectors.shape[1] or not 0 <= lacking <= _MOST_ADDED * graph.ntotal:
        return None
    rows: dict[bytes, list[int]] = {}
    for row in range(len(vectors) - 1, -1, -1):  # so that the first of equal ones is taken first
        rows.setdefault(vectors[row].tobytes(), []).append(row)
    order = []
    for held in graph.reconstruct_n(0, graph.ntotal):
        if not (found := rows.get(held.tobytes())):
            return None
        order.append(found.pop())
    new = sorted(row for rest in rows.values() for row in rest)
    if new:
        graph.add(vectors[new])
    return np.array([*order, *new], np.int64)


def _tune(graph: faiss.Index, queries: NDArray[np.float32], nearest: NDArray[np.float32]) -> dict[str, Any]:
    """Set the least effort that reaches `RECALL`, or else the greatest; the facts about it."""
    view: Any = faiss.downcast_index(graph)
    facts: dict[str, Any] = {}
    for effort in _EFFORTS:
        view.hnsw.efSearch = effort
        facts = {"factory": GRAPH, "recall_at_1": recall(graph, queries, nearest), "ef_search": effort}
        if facts["recall_at_1"] >= RECALL:
            break
    return facts


def recall(index: faiss.Index, queries: NDArray[np.float32], nearest: NDArray[np.float32]) -> float:
    """The share of queries float32 [Q, D] for which an index finds a vector as near as the nearest, cosines [Q]."""
    found, _ = index.search(queries, 1)
    return float((found[:, 0] >= nearest - _SAME).mean())


def _queries(vectors: NDArray[np.float32], exact: faiss.Index) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Queries float32 [Q, D] of length one among the vectors, and the cosines [Q] of their nearest neighbours."""
    # A query is as far from one of the vectors as that is from its nearest neighbour, in a direction drawn by lot.
    rng = np.random.default_rng(0)
    chosen = vectors[rng.choice(len(vectors), min(len(vectors), _QUERIES), replace=False)]
    apart = np.sqrt(np.maximum(2 - 2 * exact.search(chosen, 2)[0][:, 1:], 0))
    drawn = rng.standard_normal(chosen.shape).astype(np.float32)
    queries = chosen + apart * drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, exact.search(queries, 1)[0][:, 0]
