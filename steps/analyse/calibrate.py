"""How far from the gallery an image may be and still get a label: found on a validation split, which is not in it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.analyse.evaluate import nearest
from steps.common.dataset import Split


def calibrate(split: Split, network: Path, index: Path, *, batch_size: int, unknown_quantile: float) -> dict[str, Any]:
    """The distance above which an image is unknown, and the number of validation images that it comes from."""
    distances, _ = nearest(network, index, split.images, batch_size)
    return {"unknown_distance": unknown_distance(distances, unknown_quantile), "images": len(distances)}


def unknown_distance(distances: NDArray[np.float64], quantile: float) -> float | None:
    """The smallest of these distances float64 [N] that at least this share of them does not exceed.

    That is the quantile x_(ceil(N quantile)), definition 1 of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages" (1996). None, which calls no image unknown, if the images are too few to tell: with fewer than
    1 / (1 - quantile) it would be the largest distance, whatever the quantile. None too if that distance is infinite.
    """
    if len(distances) * (1 - quantile) < 1 - 1e-9:  # 100 images are enough for 0.99, which has no exact float
        return None
    distance = float(np.quantile(distances, quantile, method="inverted_cdf"))
    return distance if np.isfinite(distance) else None
