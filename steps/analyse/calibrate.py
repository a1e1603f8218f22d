"""Calibrates the distance above which an image is unknown, on the validation split. Reads a network and an index."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.analyse.evaluate import nearest, stored_network
from steps.common.images.dataset import Rows, Split
from steps.common.models.embedding import Chosen


def calibrate(
    split: Split,
    gallery: Rows,
    network: Path,
    index: Path,
    *,
    batch_size: int,
    neighbours: int,
    unknown_quantile: float,
) -> dict[str, Any]:
    """Calibrate on the images of a split of which no copy is in the gallery: copies would say that all is near.

    Args:
        split: The validation split.
        gallery: What is known of the gallery's images.
        network: The network's folder.
        index: The index's folder.
        batch_size: Images read at a time.
        neighbours: As many as the server looks for.
        unknown_quantile: The share of the images that must get a label.

    Returns:
        `unknown_distance`; `images`, the number of images that it comes from; and `copies`, the number left out.
    """
    rows = no_copies(split.rows, gallery)
    keys = [split.rows.keys[row] for row in rows]
    embed = stored_network(network, keys, batch_size)
    distances, _ = nearest(embed, index, Chosen(split.images, rows), neighbours)
    distance = unknown_distance(distances, unknown_quantile)
    return {"unknown_distance": distance, "images": len(rows), "copies": len(split) - len(rows)}


def no_copies(rows: Rows, gallery: Rows) -> NDArray[np.int64]:
    """The rows of images whose key and group are not in the gallery."""
    keys, groups = set(gallery.keys), set(gallery.groups)
    pairs = enumerate(zip(rows.keys, rows.groups, strict=True))
    return np.array([row for row, (key, group) in pairs if key not in keys and group not in groups], np.int64)


def images_needed(quantile: float) -> int:
    """With fewer images than this the quantile is the largest distance, which says nothing."""
    return math.ceil((1 - 1e-9) / (1 - quantile))  # 0.99 has no exact float, and 100 images are enough for it


def unknown_distance(distances: NDArray[np.float64], quantile: float) -> float | None:
    """Return the smallest distance that is not exceeded by a given share of the distances.

    It is the quantile x_(ceil(N quantile)), definition 1 of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages" (1996).

    Args:
        distances: Cosine distances float64 [N].
        quantile: The share, from 0 to 1.

    Returns:
        The distance. None, which calls no image unknown, if N is too small, see `images_needed`, and if the distance
        is infinite.
    """
    if len(distances) < images_needed(quantile):
        return None
    distance = float(np.quantile(distances, quantile, method="inverted_cdf"))
    return distance if np.isfinite(distance) else None
