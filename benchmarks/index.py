"""Measures kinds of indexes on made-up embeddings, as large as a gallery may be: recall, build, memory, and latency.

Times are those of one thread on the processor, so that other load matters less.

The embeddings are of 1,000 classes, each spread about its centre. Queries are new ones of the same classes.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.common.models import auto_index, faiss_index

SIZES = (10_000, 100_000, 1_000_000)
DIMENSIONS = 64
BATCH = 32
_CLASSES, _SPREAD = 1_000, 0.5
_QUERIES = 1_000
_NEIGHBOURS = 5  # in an answer
_SEARCHES = 30
_FLAT_SIZES = (16, 64, 256)  # lengths of embeddings at which the border of `auto` is measured


def measure() -> list[tuple[str, str]]:
    """Rows of a kind of index of a size, and its figures, all by one thread; then those at the border of `auto`."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        rows = [(f"{DIMENSIONS} numbers each", f"recall@1, build s, MB, ms for {BATCH}")]
        for count in SIZES:
            rows += _of_size(count)
        for size in _FLAT_SIZES:
            count = auto_index.most_flat(size)
            made = faiss_index.build(_embeddings(count, size, 0), "Flat")
            spent = _milliseconds(made, _embeddings(BATCH, size, 1))
            rows.append((f"border of auto, {count:,} of {size}", f"{spent:28.2f}"))
        return rows
    finally:
        faiss.omp_set_num_threads(threads)


def _of_size(count: int) -> Iterator[tuple[str, str]]:
    vectors, queries = _embeddings(count, DIMENSIONS, 0), _embeddings(_QUERIES, DIMENSIONS, 1)
    nearest = faiss_index.build(vectors, "Flat").search(queries, 1)[0][:, 0]
    for factory in ("Flat", f"IVF{2 * math.isqrt(count)},Flat", auto_index.AUTO):
        began = time.process_time()
        made, facts = _made(vectors, factory)
        built = time.process_time() - began
        effort = f" = {facts['factory']}, efSearch {facts['ef_search']}" if "ef_search" in facts else ""
        found = auto_index.recall(made, queries, nearest)
        memory = len(faiss.serialize_index(made)) / 1e6
        figures = f"{found:.3f} {built:7.1f} {memory:5.0f} {_milliseconds(made, queries):8.2f}"
        yield f"{count:,}: {factory}{effort}", figures


def _made(vectors: NDArray[np.float32], factory: str) -> tuple[Any, dict[str, Any]]:
    if factory == auto_index.AUTO:
        made = auto_index.build(vectors)
        return made.index, made.facts
    return faiss_index.build(vectors, factory), {}


def _embeddings(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """Float32 [count, size] of length one; the centres are the same for each seed."""
    centres = np.random.default_rng(7).standard_normal((_CLASSES, size), np.float32)
    draw = np.random.default_rng(seed)
    vectors = centres[draw.integers(0, _CLASSES, count)]
    vectors += _SPREAD * draw.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _milliseconds(index: Any, queries: NDArray[np.float32]) -> float:
    """Of a batch: the fastest of some, since other load only slows them down."""
    best = math.inf
    for turn in range(_SEARCHES):
        batch = np.roll(queries, turn * BATCH, axis=0)[:BATCH]
        began = time.process_time()
        index.search(batch, _NEIGHBOURS)
        best = min(best, time.process_time() - began)
    return best * 1e3
