"""The second index, of features, to tell whether an image is of any kind that is known: reads and writes nothing.

The embedding layer separates the classes, and puts what is of no class among them. The features that it reads still
tell them apart: the distance to the nearest of them is the score of Sun et al., "Out-of-distribution detection with
deep nearest neighbors" (ICML 2022).

Its size and the time of a search do not grow with the gallery: of a sample of the gallery it holds a coreset, as that
of Roth et al., "Towards total recall in industrial anomaly detection" (CVPR 2022), in fewer dimensions.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

CORESET = 1_024
_DIMENSIONS = 128


def build(features: NDArray[np.float16]) -> faiss.Index:
    """The index of features, searched by inner product.

    A similarity is the part of the cosine that is within the dimensions in which known images differ most: what is
    outside of these makes an image less similar.

    Args:
        features: Rooted features [N, F] of length one.

    Returns:
        An index that takes rooted features float32 [N, F], and projects them.
    """
    known = features.astype(np.float32)
    axes = _axes(known)
    projection = faiss.LinearTransform(known.shape[1], len(axes), False)
    faiss.copy_array_to_vector(axes.ravel(), projection.A)
    projection.is_trained = True
    flat = faiss.IndexFlatIP(len(axes))
    flat.add(_coreset(known @ axes.T))
    return faiss.clone_index(faiss.IndexPreTransform(projection, flat))  # the clone owns its parts


def _axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The axes float32 [K, F], at most so many, that hold most of the vectors: their right singular vectors."""
    _, found = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(found[:, ::-1][:, :_DIMENSIONS].T)


def _coreset(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of which every other one is near: each the farthest from those before (Gonzalez, 1985)."""
    squares = np.einsum("nk,nk->n", vectors, vectors)
    row = int(squares.argmax())
    rows, apart = [row], np.full(len(vectors), np.inf, np.float32)
    while len(rows) < min(CORESET, len(vectors)):
        np.minimum(apart, squares + squares[row] - 2 * (vectors @ vectors[row]), out=apart)
        row = int(apart.argmax())
        rows.append(row)
    return vectors[rows]
