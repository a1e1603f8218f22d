"""The index that `auto` stands for: exhaustive where that is fast, else a graph that finds nearly every nearest one.

Reads and writes nothing. Which of the two follows from the number of vectors and their length alone, not from how fast
this machine is, so that the same gallery has the same kind of index everywhere.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.common.models import faiss_index

AUTO = "auto"
FLAT, GRAPH = "Flat", "HNSW32"
# Vectors times their length. Up to so many numbers `Flat` answers 32 queries in about a millisecond on one core: see
# `python -m benchmarks index`.
MOST_FLAT = 400_000
RECALL = 0.99
_EFFORTS = (16, 32, 64, 128, 256, 512)  # HNSW's efSearch: how many neighbours a search keeps in mind
_QUERIES = 1_000
_SAME = 1e-6  # of a cosine: two vectors so alike are one nearest neighbour as good as the other


def meant(factory: str, count: int, size: int) -> str:
    """The factory string that is meant: `auto` by the number of vectors and their length, any other by itself."""
    if factory != AUTO:
        return factory
    return FLAT if count * size <= MOST_FLAT else GRAPH


def build(vectors: NDArray[np.float32]) -> tuple[faiss.Index, dict[str, Any]]:
    """The index that `auto` stands for.

    The graph is built by one thread: by several its edges would follow from their timing.

    Args:
        vectors: float32 [N, D] of length one.

    Returns:
        The index, and facts about it: `factory`; and of a graph `recall_at_1`, as measured, and `ef_search`, the least
        effort that reaches `RECALL`. Where none does, the index is exhaustive, and the recall is that of the graph.
    """
    factory = meant(AUTO, *vectors.shape)
    if factory == FLAT:
        return faiss_index.build(vectors, FLAT), {"factory": FLAT}
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        graph = faiss_index.build(vectors, GRAPH)
    finally:
        faiss.omp_set_num_threads(threads)
    exact = faiss_index.build(vectors, FLAT)
    queries, nearest = _queries(vectors, exact)
    found = 0.0
    for effort in _EFFORTS:
        of_graph: Any = faiss.downcast_index(graph)
        of_graph.hnsw.efSearch = effort
        found = recall(graph, queries, nearest)
        if found >= RECALL:
            return graph, {"factory": GRAPH, "recall_at_1": found, "ef_search": effort}
    return exact, {"factory": FLAT, "recall_at_1": found}


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
