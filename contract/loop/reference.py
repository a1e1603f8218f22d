"""The reference: what a model answered to its test images, which travels in its archive as `reference.json`.

What a server answers later is compared with it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

FILE = "reference.json"


@dataclass(frozen=True)
class Reference:
    """The answers of a model to its test images.

    Attributes:
        distances: Of the nearest neighbour, cosine distances from 0 to 2, in no order; of some of the images, if there
            are many. None where there was no neighbour.
        features_distances: Of the features, likewise, of the same images; None for a model without them.
        answers: The number of images by answer, `unknown` among them; of all images.
    """

    distances: tuple[float | None, ...]
    features_distances: tuple[float | None, ...] | None
    answers: Mapping[str, int]

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> Self:
        """The reference in JSON.

        Args:
            content: The JSON object.

        Returns:
            The reference.

        Raises:
            ValueError: It is damaged; KeyError, TypeError or AttributeError mean the same.
        """
        features = content["features_distances"]
        answers = {str(label): count for label, count in content["answers"].items()}
        distances = _distances(content["distances"])
        if not all(type(count) is int and count > 0 for count in answers.values()):
            raise ValueError("a number of answers is none")
        if features is not None and len(features) != len(distances):
            raise ValueError(f"{len(features)} distances of features, and {len(distances)} of embeddings")
        return cls(distances, None if features is None else _distances(features), answers)

    def to_bytes(self) -> bytes:
        """The reference as a JSON file."""
        return json.dumps(asdict(self), allow_nan=False).encode() + b"\n"


def _distances(values: list[Any]) -> tuple[float | None, ...]:
    found = tuple(None if value is None else float(value) for value in values)
    if not all(value is None or (math.isfinite(value) and value >= -1e-3) for value in found):
        raise ValueError("a distance is none")
    return found
