"""The second index, of features, to tell whether an image is of any known kind: reads and writes `features.npz`.

The embedding layer separates the classes, and puts what is of no class among them. The features that it reads still
tell them apart: the distance to the nearest of them is the score of Sun et al., "Out-of-distribution detection with
deep nearest neighbors" (ICML 2022).

Its size and the time of a search do not grow with the gallery: of a sample of the gallery it holds a coreset, as that
of Roth et al., "Towards total recall in industrial anomaly detection" (CVPR 2022), in fewer dimensions. So it is two
matrices, which the served network holds itself.
"""

import io
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CORESET = 640
_DIMENSIONS = 128


@dataclass(frozen=True)
class FeaturesIndex:
    """The space in which known images differ, by its axes float32 [F, K], and their places in it, float32 [K, M].

    `is_signed` is whether features may be negative: those after a ReLU are not.
    """

    axes: NDArray[np.float32]
    known: NDArray[np.float32]
    is_signed: np.bool_

    def distances(self, features: NDArray[np.float16]) -> NDArray[np.float64]:
        """How far rooted features are from the nearest known ones.

        Args:
            features: [N, F], each of length one.

        Returns:
            float64 [N]: 1 less the part of the cosine that is within the axes. What is outside of them makes an image
            more distant.
        """
        similarities = (features.astype(np.float32) @ self.axes) @ self.known
        distances: NDArray[np.float64] = 1 - similarities.max(axis=1).astype(float)
        return distances

    def save(self, file: Path) -> None:
        """Write the file; equal matrices give equal bytes, where `np.savez` leaves that to the Python."""
        with zipfile.ZipFile(file, "w") as archive:
            for name, matrix in asdict(self).items():
                content = io.BytesIO()
                np.save(content, matrix)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def load(file: Path) -> FeaturesIndex:
    """Read the file.

    Args:
        file: Where it is.

    Returns:
        The index.

    Raises:
        ValueError: It holds no such matrices.
    """
    try:
        with np.load(file) as found:
            index = FeaturesIndex(found["axes"], found["known"], np.bool_(found["is_signed"]))
    except (KeyError, OSError) as error:
        raise ValueError(f"{file.name} holds no axes and known images ({error})") from error
    fits = index.axes.ndim == index.known.ndim == 2 and index.axes.shape[1] == index.known.shape[0]
    if not fits or not index.known.size or {index.axes.dtype, index.known.dtype} != {np.dtype(np.float32)}:
        raise ValueError(f"{file.name} holds matrices of another form")
    return index


def build(features: NDArray[np.float16]) -> FeaturesIndex:
    """The index of features.

    Args:
        features: Rooted features [N, F] of length one, N > 0.

    Returns:
        The index.
    """
    vectors = np.nan_to_num(features.astype(np.float32))  # a network that diverged is for the gate to reject
    axes = _axes(vectors)
    return FeaturesIndex(axes, np.ascontiguousarray(_coreset(vectors @ axes).T), (vectors < 0).any())


def _axes(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The right singular vectors float32 [F, K] of vectors, those with the largest values."""
    _, found = np.linalg.eigh(vectors.T @ vectors)
    return np.ascontiguousarray(found[:, ::-1][:, :_DIMENSIONS])


def _coreset(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of which every other one is near: each is the farthest from those before (Gonzalez, 1985)."""
    squares = np.einsum("nk,nk->n", vectors, vectors)
    row = int(squares.argmax())
    rows, apart = [row], np.full(len(vectors), np.inf, np.float32)
    while len(rows) < min(CORESET, len(vectors)):
        np.minimum(apart, squares + squares[row] - 2 * (vectors @ vectors[row]), out=apart)
        row = int(apart.argmax())
        rows.append(row)
    return vectors[rows]
