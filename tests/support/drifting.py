"""A served version and what it answered: an archive with a reference, and collected images, made up from numbers."""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.loop import collected
from contract.loop.collected import Collected
from contract.loop.drift import Drift
from contract.loop.reference import FILE, Reference
from steps.drift.sample import Sample

VERSION = "1111aaaa2222bbbb"
CLASSES = 10

Draw = np.random.Generator


def sample(
    draw: Draw, count: int, *, scale: float = 1.0, unknown: float = 0.01, shares: NDArray[np.float64] | None = None
) -> Sample:
    """Answers whose distances are those of test times `scale`; `shares` are those of the classes."""
    labels = draw.choice(CLASSES, count, p=shares).astype(str).astype(object)
    labels[draw.random(count) < unknown] = collected.UNKNOWN
    names, counts = np.unique(labels.astype(str), return_counts=True)
    distances = [draw.gamma(2, size * scale, count) for size in (0.02, 0.05)]
    return Sample(dict(zip(names.tolist(), counts.tolist(), strict=True)), *distances)


def serve(volumes: Path, test: Sample, version: str = VERSION) -> None:
    """Write the pointer to a version, and its archive, which has this reference."""
    store = volumes / "deploy-model/model-store"
    store.mkdir(parents=True, exist_ok=True)
    mar = f"digits_{version}.mar"
    features = test.features_distances
    reference = Reference(
        tuple(np.asarray(test.distances).tolist()), None if features is None else tuple(features.tolist()), test.answers
    )
    with zipfile.ZipFile(store / mar, "w") as archive:
        archive.writestr(FILE, reference.to_bytes())
    record = {"schema": 1, "name": "digits", "version": version, "mar": mar, "network": "n", "index": "i"}
    (volumes / "deploy-model/current.json").write_text(json.dumps(record))


def collect(volumes: Path, served: Sample, **change: Any) -> None:
    """Store an image for each answer, all drawn at random just now; `change` to their records."""
    labels = [label for label, count in served.answers.items() for _ in range(count)]
    features = served.features_distances
    assert isinstance(served.distances, np.ndarray)
    assert features is not None
    for record in records(zip(labels, served.distances.tolist(), features.tolist(), strict=True), **change):
        collected.write(volumes / collected.FOLDER, record.digest.encode(), record)


def records(answers: Iterable[tuple[str, float | None, float | None]], **change: Any) -> Iterable[Collected]:
    """Records of images with these labels, distances, and distances of features."""
    for number, (label, distance, by_features) in enumerate(answers):
        values: dict[str, Any] = {
            "digest": hashlib.sha256(f"{number} {label} {distance}".encode()).hexdigest(),
            "requests": (f"r{number}",),
            "time": datetime.now(UTC).isoformat(),
            "model": "digits",
            "version": VERSION,
            "label": label,
            "nearest": label,
            "distance": distance,
            "threshold": 0.2,
            "features_distance": by_features,
            "features_threshold": 0.3,
            "unknown_by": (),
            "reason": collected.RANDOM,
            "random": True,
            "polarity": None,
            "bytes": 64,
            "content_type": "image/png",
        }
        yield Collected(**{**values, **change})


def measured(version: str = VERSION, word: str = "none") -> Drift:
    """The record of a comparison."""
    return Drift(
        at=datetime.now(UTC).isoformat(),
        version=version,
        word=word,
        why="because",
        images=200,
        source="collected",
        since=None,
        effects={"distance": 0.1, "unknown": 0.2},
    )
