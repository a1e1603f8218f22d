"""How long the page of `make review` takes with few and with many collected images, in this process."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx
import numpy as np

from contract.loop import collected
from contract.loop.collected import REASONS, Collected, digest_of
from pipeline.loop.labels import Book
from pipeline.loop.review.app import application
from pipeline.loop.review.desk import Desk
from pipeline.loop.review.queue import Queue
from steps.common.images.png import encode_png

_COUNTS = (100, 10_000)
_TIMES = 20
_HERE = "http://127.0.0.1:8090"
_MAX_PIXELS = 20_000_000


def measure() -> Iterator[str]:
    """Measure it.

    Yields:
        Lines of a Markdown table; times are medians.
    """
    yield "| images | start, first page, ms | all counts, ms | next images, ms | label one, show the next, ms |"
    yield "|---|---|---|---|---|"
    before = os.environ.get("VOLUMES", "")
    for count in _COUNTS:
        with tempfile.TemporaryDirectory() as volumes:
            os.environ["VOLUMES"] = volumes
            _fill(Path(volumes, collected.FOLDER), count)
            times = asyncio.run(_times(Path(volumes, collected.FOLDER)))
            yield f"| {count} | " + " | ".join(f"{1000 * each:.1f}" for each in times) + " |"
    os.environ["VOLUMES"] = before


async def _times(store: Path) -> list[float]:
    began = time.perf_counter()
    book = Book("light-on-dark", _MAX_PIXELS)
    page = application(Desk(Queue(store, book), book, "sample", _MAX_PIXELS))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url=_HERE) as client:

        async def get(path: str) -> httpx.Response:
            return (await client.get(page.path + path)).raise_for_status()

        async def label() -> None:
            [first, *_] = (await get("next/unknown")).json()
            await get(f"picture/collected/{first['digest']}")
            order = {"action": "label", "digests": [first["digest"]], "label": "9", "part": "train", "queue": "unknown"}
            answer = await client.post(f"{page.path}decide", json=order, headers={"Origin": _HERE})
            answer.raise_for_status()
            await get("state")

        (await client.get(page.target)).raise_for_status()
        await get("state")
        started = time.perf_counter() - began
        return [started, *[await _median(work) for work in (lambda: get("state"), lambda: get("next/unknown"), label)]]


async def _median(work: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return median(times)


def _fill(store: Path, count: int) -> None:
    """Write noise, of each reason a third, each a second after the one before."""
    random, first = np.random.default_rng(0), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        image, reason = encode_png(random.integers(0, 255, (28, 28), np.uint8)), REASONS[number % len(REASONS)]
        record = Collected(
            digest=digest_of(image),
            requests=(str(number),),
            time=(first + timedelta(seconds=number)).isoformat(),
            model="digits",
            version="1",
            label="unknown" if reason == collected.UNKNOWN else str(number % 10),
            nearest=str(number % 10),
            distance=float(random.uniform(0, 0.5)),
            threshold=0.25,
            features_distance=None,
            features_threshold=None,
            unknown_by=(),
            reason=reason,
            random=reason == collected.RANDOM,
            polarity=None,
            bytes=len(image),
            content_type="image/png",
        )
        collected.write(store, image, record)
