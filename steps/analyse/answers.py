"""What a model answers to the images of a split, so that two models are compared image by image.

Writes and reads `answers.npz`, a row for each image, and `answers.json`, the words that its numbers stand for. Imports
neither network nor index: a verdict is made of answers that are there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steps.common.images.dataset import Split

UNKNOWN = "unknown"  # the server's answer beyond the unknown distance; no class may be called so


@dataclass(frozen=True)
class Answers:
    """What a model answers to images, as the server would: labels [N], `unknown` among them, and cosine distances [N].

    A distance is infinite where the index finds no neighbour. `classes` are those of the gallery.
    """

    labels: list[str]
    distances: NDArray[np.float64]
    classes: list[str]


def true_labels(split: Split) -> list[str]:
    """The true label of each image."""
    return [split.classes[label] for label in split.labels]


def write_answers(folder: Path, answers: Answers, asked: NDArray[np.bool_]) -> None:
    """Write the files, a row for each image of the split, from answers to those images that were asked about."""
    words = sorted({*answers.classes, UNKNOWN, *answers.labels})
    number = {label: i for i, label in enumerate(words)}
    predicted, distances = np.full(len(asked), -1, np.int32), np.full(len(asked), np.nan)
    predicted[asked] = [number[label] for label in answers.labels]
    distances[asked] = answers.distances
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
