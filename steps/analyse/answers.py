"""What a model answers to the images of a split, so that two models are compared image by image.

Writes and reads `answers.npz`, a row for each image, and `answers.json`, the words that its numbers stand for. Imports
neither network nor index: a verdict is made of answers that are there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from steps.common.images.dataset import Split

UNKNOWN = "unknown"  # the server's answer beyond the unknown distance; no class may be called so


@dataclass(frozen=True)
class Limits:
    """The distances to the gallery beyond which an image is unknown: of its embedding, and of its features.

    None stands for no such limit. The names are those in an archive's `model.json`.
    """

    unknown_distance: float | None
    unknown_features_distance: float | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """The limits among an archive's settings or an artefact's facts; those that an older one lacks are None."""
        return cls(settings.get("unknown_distance"), settings.get("unknown_features_distance"))


@dataclass(frozen=True)
class Nearest:
    """What indexes find for images.

    `distances` float64 [N] are cosine distances of embeddings to the gallery's nearest, and `rows` int64 [N] say which
    that is: infinity and -1 where the index finds none. `features_distances` float64 [N] are those of features; None
    for a model without an index of features.
    """

    distances: NDArray[np.float64]
    rows: NDArray[np.int64]
    features_distances: NDArray[np.float64] | None

    def known(self, limits: Limits) -> NDArray[np.bool_]:
        """Which images are near enough, bool [N]; one without a neighbour, or of a distance that is NaN, is not."""
        near: NDArray[np.bool_] = (self.rows >= 0) & _within(self.distances, limits.unknown_distance)
        if self.features_distances is not None:
            near &= _within(self.features_distances, limits.unknown_features_distance)
        return near


def _within(distances: NDArray[np.float64], limit: float | None) -> NDArray[np.bool_]:
    return np.ones(len(distances), bool) if limit is None else distances <= limit


@dataclass(frozen=True)
class Answers:
    """What a model answers to images, as the server would: labels [N], `unknown` among them, and what it found.

    `classes` are those of the gallery.
    """

    labels: list[str]
    nearest: Nearest
    classes: list[str]


def true_labels(split: Split) -> list[str]:
    """The true label of each image."""
    return [split.classes[label] for label in split.labels]


def write_answers(folder: Path, answers: Answers, asked: NDArray[np.bool_]) -> None:
    """Write the files, a row for each image of the split, from answers to all images of which some were asked about."""
    words = sorted({*answers.classes, UNKNOWN, *answers.labels})
    number = {label: i for i, label in enumerate(words)}
    predicted = np.where(asked, [number[label] for label in answers.labels], -1).astype(np.int32)
    distances = np.where(asked, answers.nearest.distances, np.nan)
    np.savez(folder / "answers.npz", asked=asked, predicted=predicted, distances=distances)
    (folder / "answers.json").write_text(json.dumps({"words": words, "classes": answers.classes}))


def read_answers(folder: Path, images: int) -> tuple[NDArray[np.object_], frozenset[str], NDArray[np.bool_]]:
    """Read the files.

    Args:
        folder: The folder of an evaluation.
        images: The number of images of its split.

    Returns:
        The answer to each image, None where it was not asked about; the classes of the gallery; and what was asked.

    Raises:
        ValueError: There are more or fewer answers than images.
    """
    words = json.loads((folder / "answers.json").read_text())
    with np.load(folder / "answers.npz") as file:
        predicted, asked = file["predicted"], file["asked"]
    if len(predicted) != images:
        raise ValueError(f"evaluation {folder.name} has {len(predicted)} answers to {images} images")
    return np.array([*words["words"], None], object)[predicted], frozenset(words["classes"]), asked


def read_distances(folder: Path) -> NDArray[np.float64]:
    """The cosine distance of each image to the gallery's nearest, float64 [N]; NaN where it was not asked about."""
    with np.load(folder / "answers.npz") as file:
        distances: NDArray[np.float64] = file["distances"]
    return distances
