"""Calibrates the distances above which an image is unknown, on the validation split. Reads a network and an index."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.analyse.answers import Limits, Nearest
from steps.analyse.evaluate import nearest, stored_network
from steps.common.images.dataset import Rows, Split
from steps.common.models.embedding import Chosen

# Of the images that may be unknown, those that the embedding alone decides. It finds little that features do not.
_BY_EMBEDDING = 0.25
_ROUNDING = 1e-9  # 0.99 has no exact float, and 99 of 100 images are enough for it


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
        The limits; `images`, the number of images that they come from; and `copies`, the number left out.
    """
    rows = no_copies(split.rows, gallery)
    keys = [split.rows.keys[row] for row in rows]
    embed = stored_network(network, index, keys, batch_size)
    limits = choose_limits(nearest(embed, index, Chosen(split.images, rows), neighbours), unknown_quantile)
    return {**asdict(limits), "images": len(rows), "copies": len(split) - len(rows)}


def no_copies(rows: Rows, gallery: Rows) -> NDArray[np.int64]:
    """The rows of images whose key and group are not in the gallery."""
    keys, groups = set(gallery.keys), set(gallery.groups)
    pairs = enumerate(zip(rows.keys, rows.groups, strict=True))
    return np.array([row for row, (key, group) in pairs if key not in keys and group not in groups], np.int64)


def images_needed(quantile: float) -> int:
    """With fewer images than this the quantile is the largest distance, which says nothing."""
    return math.ceil((1 - _ROUNDING) / (1 - quantile))


def choose_limits(found: Nearest, quantile: float) -> Limits:
    """Return limits that a given share of the images keeps, both of them.

    Args:
        found: What is found for validation images.
        quantile: The share, from 0 to 1.

    Returns:
        The limits. Where there are too few images, see `images_needed`, and where the embedding's would be infinite,
        both are None, which calls no image unknown.
    """
    if len(found.distances) < images_needed(quantile):
        return Limits(None, None)
    if found.features_distances is None:
        distance = smallest(found.distances, quantile)
        return Limits(distance if np.isfinite(distance) else None, None)
    distance = smallest(found.distances, 1 - _BY_EMBEDDING * (1 - quantile))
    if not np.isfinite(distance):
        return Limits(None, None)
    within = np.sort(found.features_distances[found.distances <= distance])
    return Limits(distance, float(within[math.ceil(quantile * len(found.distances) - _ROUNDING) - 1]))


def smallest(distances: NDArray[np.float64], quantile: float) -> float:
    """Return the smallest distance that is not exceeded by a given share of the distances.

    It is the quantile x_(ceil(N quantile)), definition 1 of Hyndman & Fan, "Sample Quantiles in Statistical
    Packages" (1996).

    Args:
        distances: Cosine distances float64 [N].
        quantile: The share, from 0 to 1.

    Returns:
        The distance.
    """
    return float(np.quantile(distances, quantile, method="inverted_cdf"))
