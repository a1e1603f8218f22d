"""What is compared: the answers to the test images, from the model archive, and those that were served."""

import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.loop.collected import UNKNOWN, Collected
from contract.loop.reference import FILE, Reference
from contract.pointer import DAMAGE, MODEL_STORE, Pointer
from steps.common.errors import StepError

FARTHEST = 2.0  # a cosine distance; for an image without a neighbour
MOST = 5000  # images, the newest: more make no comparison clearer

Distances = NDArray[np.float64]


@dataclass(frozen=True)
class Buckets:
    """A histogram of distances: `counts[i]` of them are above `edges[i - 1]` and at most `edges[i]`.

    The last one is above all edges.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """Answers to images.

    Attributes:
        answers: The number of images by answer, `unknown` among them.
        distances: Of the nearest neighbours, float64 [N]; or a histogram of them.
        features_distances: Of the features, float64 [N]; None where they are not known.
    """

    answers: Mapping[str, int]
    distances: Distances | Buckets
    features_distances: Distances | None = None

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(self.answers.values())

    @property
    def unknown(self) -> int:
        """How many are unknown."""
        return self.answers.get(UNKNOWN, 0)

    @property
    def classes(self) -> dict[str, int]:
        """The number of images by class, without those that are unknown."""
        return {label: count for label, count in self.answers.items() if label != UNKNOWN}


EMPTY = Sample({}, Buckets((), (0,)))


def reference(volume: Path, pointer: Pointer) -> Sample:
    """What analyse saw on test.

    Args:
        volume: The deploy volume.
        pointer: The version that is served.

    Returns:
        The answers to the test images.

    Raises:
        StepError: The archive cannot be read, or an earlier version of this project made it.
    """
    path = volume / MODEL_STORE / pointer.mar
    try:
        with zipfile.ZipFile(path) as archive:
            found = Reference.parsed(json.loads(archive.read(FILE)))
    except KeyError as error:
        raise StepError(
            f"{path.name} does not say what its model answered to test images: an earlier version of this project made "
            "it, and the next version that make run deploys does (gate.on_tie: replace deploys an equal model)"
        ) from error
    except (OSError, zipfile.BadZipFile, *DAMAGE) as error:
        raise StepError(f"{path} cannot be read ({error}): make run, which makes it anew") from error
    features = found.features_distances
    return Sample(found.answers, _array(found.distances), None if features is None else _array(features))


def served(records: Iterable[Collected], version: str, days: int, now: datetime) -> tuple[Sample, datetime | None]:
    """What was served, from the images that were drawn at random. Each image counts once, however often it was sent.

    Args:
        records: What was collected.
        version: The version that answered.
        days: The age of the oldest image.
        now: The time.

    Returns:
        The newest MOST answers, and when the oldest of them was given; None without any.
    """
    begin = now - timedelta(days=days)
    drawn = ((_time(each), each) for each in records if each.random and each.version == version)
    newest = sorted((pair for pair in drawn if pair[0] >= begin), key=lambda pair: pair[0], reverse=True)
    chosen = list(itertools.islice(newest, MOST))
    features = [each.features_distance for _, each in chosen]
    sample = Sample(
        Counter(each.label for _, each in chosen),
        _array(each.distance for _, each in chosen),
        None if chosen and all(value is None for value in features) else _array(features),
    )
    return sample, chosen[-1][0] if chosen else None


def _array(values: Iterable[float | None]) -> Distances:
    return np.array([FARTHEST if value is None else value for value in values], np.float64)


def _time(record: Collected) -> datetime:
    try:
        found = datetime.fromisoformat(record.time)
    except (TypeError, ValueError):
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
