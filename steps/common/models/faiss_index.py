"""FAISS indexes whose similarities are cosines: builds one by its factory string, and tries a factory beforehand."""

import re
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.common.errors import StepError

TOLERANCE = 0.05  # of a cosine; a scalar quantiser of 4 bits stays below it, a product quantiser does not
_TRIED = 5_000  # vectors at most, so that trying a factory takes a second
_QUERIES = 64
# Transforms that change the length of a vector, in FAISS's words; after them vectors get length one again.
_CHANGES_LENGTH = re.compile(r"^(PCA|PCAR|PCAW|PCAWR|OPQ|RR|ITQ|Pad)\d")
_NORMALISE = "L2norm"


def build(vectors: NDArray[np.float32], factory: str, construction: int = 0) -> faiss.Index:
    """The index of these vectors, searched by inner product.

    Args:
        vectors: float32 [N, D] of length one, so that an inner product is a cosine.
        factory: A FAISS factory string, such as `Flat` or `IVF64,Flat`. After a transform that changes the length of
            vectors, such as PCA, they are normalised, and the cosines are those of the transformed vectors.
        construction: HNSW's efConstruction, for a factory that is a graph and nothing else; 0: FAISS's own.

    Returns:
        The trained index that holds all vectors.

    Raises:
        StepError: if FAISS cannot make or train such an index of so many vectors.
    """
    try:
        index = faiss.index_factory(vectors.shape[1], normalised(factory), faiss.METRIC_INNER_PRODUCT)
        if construction:
            graph: Any = faiss.downcast_index(index)
            graph.hnsw.efConstruction = construction
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StepError(
            f"index.factory is {factory!r}, and FAISS cannot make that index of {len(vectors)} embeddings of "
            f"{vectors.shape[1]}: {reason}"
        ) from error
    return index


def normalised(factory: str) -> str:
    """The factory with a normalisation after the last transform that changes lengths, unless there is one."""
    parts = factory.split(",")
    changing = [place for place, part in enumerate(parts) if _CHANGES_LENGTH.match(part)]
    if not changing or parts[changing[-1] + 1 : changing[-1] + 2] == [_NORMALISE]:
        return factory
    return ",".join([*parts[: changing[-1] + 1], _NORMALISE, *parts[changing[-1] + 1 :]])


def check_factory(factory: str, count: int, size: int) -> None:
    """Try a factory on made-up embeddings, before anything is trained for it.

    Args:
        factory: The factory string.
        count: Vectors that the index is to hold.
        size: Length of an embedding.

    Raises:
        StepError: if FAISS cannot make that index, or if its similarities are no cosines, as those of a product
            quantiser are not: the distances in answers, and `unknown`, would mean nothing.
    """
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((min(count, _TRIED), size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if _is_quantised_by_products(factory, size):
        raise StepError(_no_cosines(factory, "it quantises parts of vectors"))
    index = build(vectors, factory)
    similarities, rows = index.search(vectors[:_QUERIES], 1)
    own = similarities[rows[:, 0] == np.arange(len(rows)), 0]
    off = float(np.abs(own - 1).max()) if len(own) else 2.0
    if index.metric_type != faiss.METRIC_INNER_PRODUCT or off > TOLERANCE or similarities.max() > 1 + TOLERANCE:
        raise StepError(_no_cosines(factory, f"a vector's with itself is off by {off:.2f}"))


def _is_quantised_by_products(factory: str, size: int) -> bool:
    """Whether vectors are kept as codes of their parts alone: known before such an index is trained, which is slow."""
    try:
        whole = faiss.index_factory(size, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError:
        return False  # for `build` to say
    index = faiss.downcast_index(whole)  # a view, which lives as long as the whole does
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return "PQ" in type(index).__name__


def _no_cosines(factory: str, why: str) -> str:
    return (
        f"index.factory is {factory!r}, and its similarities are no cosines ({why}): choose one that keeps them, such "
        f"as Flat, HNSW32, IVF64,Flat, SQ8, or {factory},RFlat"
    )
