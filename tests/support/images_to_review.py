"""Collected images to review: real image files, each a second after the one before."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.collected_images import kept
from tests.support.model_archive import picture, png

VERSION = "0123abcd"
_START = datetime(2026, 11, 26, 6, tzinfo=UTC)


def image(number: int) -> bytes:
    """An image file; another number, another image."""
    return png(picture(number % 4, bright=60 + number // 4 % 190))


def add(store: Path, data: bytes, number: int = 0, **fields: Any) -> str:
    """Store an image, which came so many seconds after the first; its digest."""
    time = (_START + timedelta(seconds=number)).isoformat()
    given = {"time": time, "model": "quarters", "version": VERSION, "label": "upper left", "nearest": "upper left"}
    given |= {"distance": 0.1, "threshold": 0.3, "features_distance": None, "features_threshold": None}
    return kept(store, data, **{**given, "random": False, **fields})


def unknown(store: Path, number: int, **fields: Any) -> str:
    """Store an image that was called unknown."""
    given = {"label": "unknown", "reason": "unknown", "distance": 0.5, "unknown_by": ("distance",)}
    return add(store, image(number), number, **{**given, **fields})
