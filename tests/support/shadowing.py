"""Versions to be shadowed, and clients that ask meanwhile."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

from tests.support.model_archive import NAME, picture, png, write_model
from tests.support.serving_start import ONE, Start, Volumes

EQUAL, SLOW, FAILING = "3333cccc", "4444dddd", "5555eeee"
LIMITS = {
    "before": ONE,
    "seconds": 4,
    "share": 1.0,
    "min_requests": 30,
    "max_errors": 0.01,
    "max_slower": 1.0,  # other tests may take the processor
    "min_equal": 0.9,
    "max_unknown": 0.05,
}

# What the handler of a version does with copies of requests, and with nothing else.
_COPIES = """

_handle = Handler.handle


def _on_copies(self, data, context):
    if any("x-shadow" in _headers(context.get_all_request_header(number)) for number in range(len(data))):
        {statement}
    return _handle(self, data, context)


Handler.handle = _on_copies
"""
_STATEMENTS = {SLOW: "time.sleep(2)", FAILING: "raise LookupError('a defect')"}


def add_version(volumes: Volumes, version: str) -> None:
    """Add EQUAL, which answers as ONE does; or one that is SLOW or FAILING with copies alone."""
    folder = write_model(volumes.root.with_name(f"{volumes.root.name}-{version}"), version)
    if statement := _STATEMENTS.get(version):
        with (folder / "handler.py").open("a") as handler:
            handler.write(_COPIES.format(statement=statement))
    volumes.add(version, folder)


class Clients:
    """What some clients got: statuses, versions and seconds, of one request after the other on kept connections."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str | None, float]] = []
        self.stop = Event()

    def seconds(self, quantile: float) -> float:
        ordered = sorted(took for *_, took in self.answers)
        return ordered[int(quantile * (len(ordered) - 1))]


@contextmanager
def clients(server: Start, count: int = 3, pause: float = 0.005) -> Iterator[Clients]:
    """Clients that ask until the block ends."""
    asked = Clients()
    with ThreadPoolExecutor(count) as pool:
        done = [pool.submit(_ask_on, server.port, asked, pause) for _ in range(count)]
        try:
            yield asked
        finally:
            asked.stop.set()
        for each in done:
            each.result()


def _ask_on(port: int, asked: Clients, pause: float) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    body, number = [png(picture(quarter)) for quarter in range(4)], 0
    while not asked.stop.is_set():
        began = time.monotonic()
        connection.request("POST", f"/predictions/{NAME}", body[number % 4])
        response = connection.getresponse()
        answer = json.loads(response.read())
        took = time.monotonic() - began
        asked.answers.append((response.status, (answer.get("model") or {}).get("version"), took))
        number += 1
        time.sleep(pause)
    connection.close()


def audit(volumes: Volumes) -> list[dict[str, Any]]:
    """The lines of the journal."""
    path = Path(volumes.volume, "audit.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pointer(volumes: Volumes) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((volumes.volume / "current.json").read_text())
    return content
