"""Calibrates the distance above which an image is unknown, on the validation split. Reads a network and an index."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.analyse.evaluate import nearest
from steps.common.dataset import Split


def calibrate(split: Split, network: Path, index: Path, *, batch_size: int, unknown_quantile: float) -> dict[str, Any]:
    """Calibrate on a split that is not in the gallery.

    Args:
        split: The validation split.
        network: The network's folder.
        index: The index's folder.
        batch_size: Images embedded at a time.
        unknown_quantile: The share of the images that must get a label.

    Returns:
        `unknown_distance`, and `images`, the number of images that it comes from.
    """
    distances, _ = nearest(network, index, split.images, batch_size)
    return {"unknown_distance": unknown_distance(distances, unknown_quantile), "images": len(distances)}


def unknown_distance(distances: NDArray[np.float64], quantile: float) -> float | None:
    """Return the smallest distance that is not exceeded by a given share of the distances.

    It is the quantile x_(ceil(N quantile)), definition 1 of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages" (1996).

    Args:
        distances: Cosine distances float64 [N].
        quantile: The share, from 0 to 1.

    Returns:
        The distance. None, which calls no image unknown, if N is less than 1 / (1 - quantile), since the quantile
        is then the largest distance, and if the distance is infinite.
    """
    if len(distances) * (1 - quantile) < 1 - 1e-9:  # 0.99 has no exact float, and 100 images are enough for it
        return None
    distance = float(np.quantile(distances, quantile, method="inverted_cdf"))
    return distance if np.isfinite(distance) else None
