"""Records of collected images, for tests: each with the bytes of its own."""

import dataclasses
from pathlib import Path
from typing import Any

from contract.loop.collected import Collected, digest_of, write

_RECORD = Collected(
    digest=digest_of(b""),
    requests=("request-1",),
    time="2026-11-26T05:00:00.000+00:00",
    model="digits",
    version="1111aaaa",
    label="7",
    nearest="7",
    distance=0.01,
    threshold=0.1,
    features_distance=0.02,
    features_threshold=0.2,
    unknown_by=(),
    reason="random",
    random=True,
    polarity=None,
    bytes=0,
    content_type="image/png",
)


def record_of(image: bytes, **changes: Any) -> Collected:
    """A record of these bytes: drawn at random, unless `reason` says otherwise."""
    values = {"digest": digest_of(image), "bytes": len(image), "random": changes.get("reason", "random") == "random"}
    return dataclasses.replace(_RECORD, **values | changes)


def kept(folder: Path, image: bytes, **changes: Any) -> str:
    """Write an image with its record, and return its digest."""
    record = record_of(image, **changes)
    write(folder, image, record)
    return record.digest
